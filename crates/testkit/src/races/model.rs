//! The life of the containers of one group as a pure model: a state, and what each step does to it.

use super::{Ask, Status, Told};

/// A container of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Life {
    /// Which one, as its id says.
    pub(super) id: u32,
    pub(super) status: Status,
    /// Rises with every start.
    pub(super) run: u32,
}

/// Names of a group and who bears them.
pub(super) type State = [Option<Life>; NAMES];
/// Names in a group.
pub(super) const NAMES: usize = 2;

/// A step of an operation. What one step notes, later steps of the same operation are given: whoever was found by a
/// name is acted on, whatever it is called by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Looked up by name; notes who was found.
    Find,
    /// All the rest at once.
    Act,
    /// It is alive; notes its run.
    Alive,
    /// A frozen one that is about to be killed goes on.
    Thaw,
    /// The run that was noted is over from here on.
    End,
    /// What runs is over from here on, or not.
    MayEnd,
    /// Removed.
    Vanish,
    /// Started, by this or by another.
    Runs,
}

/// What an operation noted: the container's number and its run.
pub(super) type Note = Option<(u32, u32)>;

/// The steps of an operation that was told `told`.
pub(super) fn steps(ask: Ask, told: &Told) -> &'static [Step] {
    match (ask, told) {
        (Ask::Create(_), _) => &[Step::Act],
        (Ask::Stop(_) | Ask::Kill(_), Told::Done(_)) => {
            &[Step::Find, Step::Alive, Step::Thaw, Step::End]
        }
        (Ask::RemoveForced(_), Told::Done(_)) => &[Step::Find, Step::Thaw, Step::End, Step::Vanish],
        (Ask::Restart(_), Told::Done(_)) => &[Step::Find, Step::Thaw, Step::End, Step::Runs],
        // The first half was done when another got in between.
        (Ask::Restart(_), Told::Conflict | Told::BeingRemoved)
        | (
            Ask::Restart(_) | Ask::Stop(_) | Ask::Kill(_) | Ask::RemoveForced(_),
            Told::Missing | Told::BeingRemoved,
        ) => &[Step::Find, Step::Thaw, Step::MayEnd, Step::Act],
        _ => &[Step::Find, Step::Act],
    }
}

fn name(ask: Ask) -> u8 {
    match ask {
        Ask::Create(n)
        | Ask::Start(n)
        | Ask::Stop(n)
        | Ask::Kill(n)
        | Ask::Restart(n)
        | Ask::Pause(n)
        | Ask::Unpause(n)
        | Ask::Rename(n, _)
        | Ask::Remove(n)
        | Ask::RemoveForced(n)
        | Ask::Inspect(n)
        | Ask::Exec(n)
        | Ask::Wait(n) => n,
    }
}

fn alive(status: Status) -> bool {
    matches!(status, Status::Running | Status::Paused)
}

/// Does one step. All ways in which it can be explained in `state`; none when it cannot.
pub(super) fn apply(
    state: &State,
    (ask, told, step, note): (Ask, &Told, Step, Note),
) -> Vec<(State, Note)> {
    let place = note.and_then(|(id, _)| state.iter().position(|l| l.is_some_and(|l| l.id == id)));
    let life = place.and_then(|place| state[place]);
    let same = || vec![(*state, note)];
    let to = |change: &dyn Fn(&mut Life)| {
        let mut next = *state;
        if let Some(life) = place.and_then(|place| next[place].as_mut()) {
            change(life);
        }
        (next, note)
    };
    match (step, life) {
        (Step::Find, _) => {
            vec![(*state, state[usize::from(name(ask))].map(|l| (l.id, l.run)))]
        }
        (Step::Act, _) => {
            act(state, place, (ask, told, note)).into_iter().map(|next| (next, note)).collect()
        }
        (Step::Alive, Some(life)) if alive(life.status) => {
            vec![(*state, Some((life.id, life.run)))]
        }
        (Step::Thaw, Some(life)) if life.status == Status::Paused => {
            vec![(*state, note), to(&|l| l.status = Status::Running)]
        }
        (Step::Thaw, _) => same(),
        (Step::MayEnd, Some(life)) if alive(life.status) => {
            vec![to(&|l| l.status = Status::Exited), (*state, note)]
        }
        (Step::MayEnd, _) => same(),
        (Step::End, Some(life)) if alive(life.status) => {
            let ended = to(&|l| l.status = Status::Exited);
            let noted = note.is_some_and(|(_, run)| run == life.run);
            match ask {
                Ask::Stop(_) | Ask::Kill(_) if !noted => same(),
                Ask::Stop(_) | Ask::Kill(_) => vec![ended],
                // A forced removal and a restart end whatever runs.
                _ => vec![ended, (*state, note)],
            }
        }
        (Step::End, _) => same(),
        (Step::Vanish, Some(life)) if !alive(life.status) => {
            let mut next = *state;
            if let Some(place) = place {
                next[place] = None;
            }
            vec![(next, note)]
        }
        (Step::Runs, Some(life)) => match life.status {
            Status::Created | Status::Exited => vec![to(&|l| {
                l.status = Status::Running;
                l.run += 1;
            })],
            Status::Running => same(),
            Status::Paused | Status::Removing => vec![],
        },
        _ => vec![],
    }
}

/// What an operation that is done at once makes of `state`.
fn act(state: &State, place: Option<usize>, (ask, told, note): (Ask, &Told, Note)) -> Vec<State> {
    let same = || vec![*state];
    let when = |holds: bool| if holds { same() } else { vec![] };
    // What another's removal refuses was seen while that removal was under way, which the search checks.
    if *told == Told::BeingRemoved {
        return same();
    }
    let with = |place: usize, life: Option<Life>| {
        let mut next = *state;
        next[place] = life;
        next
    };
    if let Ask::Create(n) = ask {
        let at = usize::from(n);
        return match (told, state[at]) {
            (Told::Done(Some(id)), None) => {
                vec![with(at, Some(Life { id: *id, status: Status::Created, run: 0 }))]
            }
            (Told::Conflict, found) => when(found.is_some()),
            _ => vec![],
        };
    }
    let Some((place, life)) = place.and_then(|place| Some((place, state[place]?))) else {
        // Nobody bore the name, or who did is gone by now, which also ends a wait.
        let ends_wait = note.is_some() && matches!((ask, told), (Ask::Wait(_), Told::Done(_)));
        return when(*told == Told::Missing || ends_wait);
    };
    let to = |status, run| vec![with(place, Some(Life { status, run, ..life }))];
    match (ask, told, life.status) {
        (Ask::Start(_), Told::Done(_), Status::Created | Status::Exited) => {
            to(Status::Running, life.run + 1)
        }
        (Ask::Start(_), Told::Already, Status::Running) => same(),
        (Ask::Start(_) | Ask::Restart(_), Told::Conflict, Status::Paused) => same(),
        (Ask::Stop(_), Told::Already, Status::Created | Status::Exited) => same(),
        (Ask::Kill(_), Told::Conflict, Status::Created | Status::Exited) => same(),
        (Ask::Pause(_), Told::Done(_), Status::Running) => to(Status::Paused, life.run),
        (Ask::Pause(_), Told::Conflict, status) => when(status != Status::Running),
        (Ask::Unpause(_), Told::Done(_), Status::Paused) => to(Status::Running, life.run),
        (Ask::Unpause(_), Told::Conflict, status) => when(status != Status::Paused),
        (Ask::Remove(_), Told::Done(_), Status::Created | Status::Exited) => {
            vec![with(place, None)]
        }
        (Ask::Remove(_), Told::Conflict, status) => when(alive(status)),
        (Ask::Rename(_, to), Told::Done(_), _) if state[usize::from(to)].is_none() => {
            let mut next = with(place, None);
            next[usize::from(to)] = Some(life);
            vec![next]
        }
        // Taken by another, or it is called so already.
        (Ask::Rename(_, to), Told::Conflict, _) => when(state[usize::from(to)].is_some()),
        // As in Docker what never started is shown so too. That there is a removal the search checks.
        (Ask::Inspect(_), Told::Seen(id, Status::Removing), status) => {
            when(*id == life.id && !alive(status))
        }
        (Ask::Inspect(_), Told::Seen(id, seen), status) => when(*id == life.id && *seen == status),
        (Ask::Exec(_), Told::Done(_), status) => when(status == Status::Running),
        (Ask::Exec(_), Told::Conflict, status) => when(status != Status::Running),
        (Ask::Wait(_), Told::Done(_), status) => when(!alive(status)),
        _ => vec![],
    }
}
