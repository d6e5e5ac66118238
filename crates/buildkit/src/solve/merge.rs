//! States laid over each other, what one has more than another, and definitions that steps make.

use super::{Did, Out, Run, State, blocking, key::Key, read, solve};
use crate::proto::pb;
use base::{Error, Result};
use build::host::{Host as _, Layer, Workspace as _};

/// Bytes of a definition that a step makes.
const DEFINITION: u64 = 16 << 20;

impl Run {
    pub(super) async fn merge(&self, merge: &pb::MergeOp) -> Result<Did> {
        let mut states = Vec::new();
        let mut key = Key::of("merge");
        for input in &merge.inputs {
            let state = self.state(self.input(input.input)?).await?;
            if state.image.is_some() {
                key.add("input", &state.chain).from = usize::try_from(input.input).ok();
                states.push(state);
            }
        }
        let Some((base, rest)) = states.split_first() else {
            return Ok(Did { outs: vec![Out::State(State::scratch())], cached: true });
        };
        if let Some(outs) = self.recall(&key, 1).await? {
            return Ok(Did { outs, cached: true });
        }
        let _alone = self.job.site.alone(&key.output(0)).await;
        if let Some(outs) = self.recall(&key, 1).await? {
            return Ok(Did { outs, cached: true });
        }
        self.start();
        let mut upper = Vec::new();
        for state in rest {
            upper.extend(self.layers(state)?);
        }
        let image = self.job.host.stack(base.image.as_ref(), &upper).await?;
        let state = State::of(&image);
        self.remember(&key, &[(state.clone(), upper.iter().map(|l| l.size).sum())], base)?;
        Ok(Did { outs: vec![Out::State(state)], cached: false })
    }

    pub(super) async fn diff(&self, diff: &pb::DiffOp) -> Result<Did> {
        let lower = diff.lower.as_ref().map_or(-1, |l| l.input);
        let upper = diff.upper.as_ref().map_or(-1, |u| u.input);
        let lower = self.state(self.input(lower)?).await?;
        let upper = self.state(self.input(upper)?).await?;
        let mut key = Key::of("diff");
        let at = |input: Option<i64>| input.and_then(|i| usize::try_from(i).ok());
        key.add("lower", &lower.chain).from = at(diff.lower.as_ref().map(|l| l.input));
        key.add("upper", &upper.chain).from = at(diff.upper.as_ref().map(|u| u.input));
        if let Some(outs) = self.recall(&key, 1).await? {
            return Ok(Did { outs, cached: true });
        }
        self.start();
        let (below, above) = (self.layers(&lower)?, self.layers(&upper)?);
        let image = if above.len() >= below.len()
            && above.iter().zip(&below).all(|(a, b)| a.diff_id == b.diff_id)
        {
            // What was built on the other: the layers above it, deletions and all.
            self.job.host.stack(None, &above[below.len()..]).await?
        } else {
            self.compared(&lower, &upper).await?
        };
        let state = State::of(&image);
        self.remember(&key, &[(state.clone(), 0)], &State::scratch())?;
        Ok(Did { outs: vec![Out::State(state)], cached: false })
    }

    /// One layer with all that two states differ in.
    async fn compared(&self, lower: &State, upper: &State) -> Result<build::host::Image> {
        let from = read(&self.job, Some(&Out::State(upper.clone()))).await?;
        let base = read(&self.job, Some(&Out::State(lower.clone()))).await?;
        // Written over the lower state, so that deletions are told too; then the layer alone is taken.
        let tree = self.job.host.workspace(lower.image.as_ref()).await?;
        let tree = blocking(move || {
            build::copy::transfer_changes(&from.root, &base.root, tree.root())?;
            Ok(tree)
        })
        .await?;
        let layer = tree.commit().await?;
        self.job.host.stack(None, layer.as_slice()).await
    }

    fn layers(&self, state: &State) -> Result<Vec<Layer>> {
        match &state.image {
            Some(image) => self.job.host.image_layers(image),
            None => Ok(Vec::new()),
        }
    }

    /// Solves a definition that an earlier step wrote into a file.
    pub(super) async fn nested(&self, build: &pb::BuildOp) -> Result<Out> {
        use prost::Message as _;
        use std::io::Read as _;
        let input =
            build.inputs.get("buildkit.llb.definition").or_else(|| build.inputs.values().next());
        let input = input.ok_or_else(|| Error::invalid("the nested build has no definition"))?;
        let reading = read(&self.job, self.input(input.input)?).await?;
        let name = build.attrs.get("llbbuild.filename").cloned();
        let name = name.unwrap_or_else(|| "buildkit.llb.definition".into());
        let bytes = blocking(move || {
            let fail = |e: std::io::Error| Error::io(format!("cannot read {name}"), e);
            let file = reading.root.open_file(&name).map_err(|e| fail(e.into()))?;
            let mut bytes = Vec::new();
            file.take(DEFINITION + 1).read_to_end(&mut bytes).map_err(fail)?;
            Ok(bytes)
        })
        .await?;
        if bytes.len() as u64 > DEFINITION {
            return Err(Error::invalid(format!(
                "the nested definition is larger than {DEFINITION} bytes"
            )));
        }
        let definition = pb::Definition::decode(bytes.as_slice())
            .map_err(|e| Error::invalid("cannot read the nested definition").caused_by(e))?;
        let solved = Box::pin(solve(&self.job, &definition)).await;
        match solved {
            Ok(Some(out)) => Ok(out),
            Ok(None) => Ok(Out::State(State::scratch())),
            Err(failure) => Err(Error::new(failure.error.kind(), failure.error.chain())),
        }
    }
}
