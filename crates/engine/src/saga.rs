//! Multi-step changes that undo themselves: each step knows its undo; when one fails, it and the steps
//! before it are undone in reverse order, and the first error is what the caller sees.
//!
//! A test may ask for a fault before or after any step ([`Fault`]); that is how every step of every saga
//! is broken once and nothing is found left behind.

use base::{Error, Result};
use std::{future::Future, pin::Pin};

/// What a step's `act` and `undo` return.
pub type Done<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// One step over the shared context `C`.
pub trait Step<C>: Sync {
    /// Name for logs, errors and faults, in kebab case.
    fn name(&self) -> &'static str;
    /// Does it.
    fn act<'a>(&'a self, cx: &'a mut C) -> Done<'a>;
    /// Undoes it; right even if `act` failed half-way. The default is for steps that leave nothing.
    fn undo<'a>(&'a self, _cx: &'a mut C) -> Done<'a> {
        Box::pin(async { Ok(()) })
    }
}

/// A fault to inject, for tests: the named step acts, then fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fault(pub Option<&'static str>);

/// Runs `steps` in order.
///
/// # Errors
/// The first failing step's error, after all undos ran; failing undos are logged.
pub async fn run<C>(steps: &[&dyn Step<C>], cx: &mut C, fault: Fault) -> Result<()> {
    for (at, step) in steps.iter().enumerate() {
        let mut outcome = step.act(cx).await;
        if fault.0 == Some(step.name()) && outcome.is_ok() {
            outcome = Err(Error::internal(format!("injected fault after {}", step.name())));
        }
        let Err(err) = outcome else { continue };
        for done in steps[..=at].iter().rev() {
            if let Err(undo) = done.undo(cx).await {
                tracing::error!(step = done.name(), err = undo.chain(), "undo failed");
            }
        }
        return Err(err);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Push(&'static str, bool);

    impl Step<Vec<String>> for Push {
        fn name(&self) -> &'static str {
            self.0
        }
        fn act<'a>(&'a self, cx: &'a mut Vec<String>) -> Done<'a> {
            Box::pin(async move {
                cx.push(self.0.into());
                if self.1 { Err(Error::invalid(self.0)) } else { Ok(()) }
            })
        }
        fn undo<'a>(&'a self, cx: &'a mut Vec<String>) -> Done<'a> {
            Box::pin(async move {
                cx.push(format!("-{}", self.0));
                Ok(())
            })
        }
    }

    #[tokio::test]
    async fn a_failing_step_undoes_itself_and_all_before_in_reverse() {
        let mut log = Vec::new();
        let steps: [&dyn Step<_>; 3] = [&Push("a", false), &Push("b", true), &Push("c", false)];
        assert_eq!(run(&steps, &mut log, Fault::default()).await.unwrap_err().to_string(), "b");
        assert_eq!(log, ["a", "b", "-b", "-a"]);
        let mut log = Vec::new();
        let steps: [&dyn Step<_>; 2] = [&Push("a", false), &Push("c", false)];
        assert!(run(&steps, &mut log, Fault(Some("c"))).await.is_err());
        assert_eq!(log, ["a", "c", "-c", "-a"]);
    }
}
