//! One stage: its base, the triggers of the base, its steps.

use super::{Build, Failure};
use crate::{
    dockerfile::{Dialect, Step},
    draft::Draft,
    expand, go, graph,
    host::{Host, Image, Lookup},
    output::{Message, Output},
};
use base::{Error, ImageId, Platform, Result};

/// A finished stage.
pub(super) struct Done {
    pub image: Image,
    pub base: Option<ImageId>,
}

/// A stage under way.
pub(super) struct Stage<'b, H: Host> {
    pub build: &'b Build<H>,
    /// Its place in the file.
    pub index: usize,
    pub draft: Draft,
    pub image: Image,
    /// Whether a step missed the cache; none is looked for after that.
    pub missed: bool,
    pub output: &'b Output,
}

impl<H: Host> Build<H> {
    /// Builds the stage at `index`, whose `FROM` is step `first`.
    pub(super) async fn stage(
        &self,
        index: usize,
        first: usize,
        output: &Output,
    ) -> Result<Done, Failure> {
        let stage = &self.file.stages[index];
        output.step(first, self.total, &stage.code).await;
        let image = match self.base(index, output).await {
            Ok(image) => image,
            Err(err) => {
                return Err(self.at(&stage.code, *stage.lines.start(), err.into(), output).await);
            }
        };
        let base = image.id.clone();
        let mut config = image.config.config.clone();
        let triggers = std::mem::take(&mut config.on_build);
        let draft = Draft::new(config, self.args.stage(), self.file.escape);
        let mut state = Stage { build: self, index, draft, image, missed: false, output };
        state.triggers(&triggers).await?;
        output.result(state.image.id.as_ref()).await;
        for (offset, step) in stage.steps.iter().enumerate() {
            output.step(first + 1 + offset, self.total, &step.code).await;
            if let Err(err) = state.step(step).await {
                return Err(self.at(&step.code, *step.lines.start(), err, output).await);
            }
            output.result(state.image.id.as_ref()).await;
        }
        self.note_declared(&state.draft.args).await;
        if let Some(id) = &state.image.id {
            output.send(Message::Aux(id.clone())).await;
        }
        Ok(Done { image: state.image, base })
    }

    /// Tells where in which file it failed.
    async fn at(&self, code: &str, line: usize, failure: Failure, output: &Output) -> Failure {
        if line > 0 {
            output.text(format!("{}:{line}: {code}\n", self.options.dockerfile)).await;
        }
        failure
    }

    async fn base(&self, index: usize, output: &Output) -> Result<Image> {
        let head = &self.file.stages[index].head;
        let globals = self.args.globals();
        let word = |text: &str| expand::word(text, self.file.escape, &globals[..]);
        let platform = match &head.platform {
            None => self.options.platform.clone(),
            Some(text) => {
                let text = word(text).map_err(|cause| {
                    Error::invalid("failed to process arguments for platform").caused_by(cause)
                })?;
                let platform: Platform = text.parse().map_err(|cause: Error| {
                    Error::invalid(format!("failed to parse platform {text}")).caused_by(cause)
                })?;
                Some(platform)
            }
        };
        let name = word(&head.base)?;
        if name.is_empty() {
            return Err(Error::invalid(format!("base name ({}) should not be blank", head.base)));
        }
        if let Some(earlier) = graph::named(&self.file, &name, index) {
            return self.stage_image(earlier).await;
        }
        if name == "scratch" {
            return Ok(Image::scratch(&platform.unwrap_or_else(Platform::host)));
        }
        let later = self.file.stages[index..].iter();
        if later.filter_map(|s| s.head.name.as_deref()).any(|n| n.eq_ignore_ascii_case(&name)) {
            // Docker would ask the registry for an image of that name; the author meant the stage, if
            // there is no such image either.
            let lookup = Lookup { platform, pull: false, local: true };
            return self.host.image(&name, &lookup, output).await.map_err(|cause| {
                Error::invalid(format!(
                    "base name {} is a stage that is not built before this one",
                    go::quote(&name)
                ))
                .caused_by(cause)
            });
        }
        let lookup = Lookup { platform, pull: self.options.pull, local: false };
        self.host.image(&name, &lookup, output).await
    }
}

impl<H: Host> Stage<'_, H> {
    /// Runs what `ONBUILD` of the base left for us.
    async fn triggers(&mut self, triggers: &[String]) -> Result<(), Failure> {
        if triggers.is_empty() {
            return Ok(());
        }
        let plural = if triggers.len() > 1 { "s" } else { "" };
        self.output.text(format!("# Executing {} build trigger{plural}\n", triggers.len())).await;
        for trigger in triggers {
            let step = Step::parse_trigger(trigger, self.build.file.escape, Dialect::Classic)?;
            self.step(&step).await?;
        }
        Ok(())
    }
}
