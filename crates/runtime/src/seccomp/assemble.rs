//! Classic BPF, built from its end to its beginning.
//!
//! Jumps only go forward and conditional ones at most 255 steps. Building backwards, every target is
//! known when a jump to it is made: a target within reach is shared (a filter has few different answers),
//! one out of reach gets a long jump. Answers and comparisons with constants only, so that the kernel can
//! work out at load time which numbers are always allowed and skip the filter for them.

use super::profile::{Condition, Op};
use std::collections::HashMap;
use sys::seccomp::Instruction;

pub(super) const LOAD: u16 = 0x20;
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
pub(super) const JUMP_NOT_LESS: u16 = 0x35;
const AND: u16 = 0x54;

/// Offsets within `struct seccomp_data`.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A place in the code, counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

/// Code under construction.
#[derive(Debug, Default)]
pub(super) struct Code {
    reversed: Vec<Instruction>,
    answers: HashMap<u32, Place>,
}

impl Code {
    /// The finished code.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }

    fn push(&mut self, instruction: Instruction) -> Place {
        self.reversed.push(instruction);
        Place(self.reversed.len() - 1)
    }

    /// How many steps an instruction put here would skip to get to `target`.
    fn distance(&self, target: Place) -> usize {
        self.reversed.len() - target.0 - 1
    }

    /// Ends with `value`.
    pub(super) fn answer(&mut self, value: u32) -> Place {
        // A little less than a jump's reach, for what comes between.
        const NEAR: usize = 240;
        if let Some(place) = self.answers.get(&value).copied()
            && self.distance(place) < NEAR
        {
            return place;
        }
        let place = self.push(Instruction { code: RETURN, jt: 0, jf: 0, k: value });
        self.answers.insert(value, place);
        place
    }

    /// Does one thing, then goes on at `next`.
    pub(super) fn then(&mut self, code: u16, k: u32, next: Place) -> Place {
        self.fall_into(next);
        self.push(Instruction { code, jt: 0, jf: 0, k })
    }

    fn fall_into(&mut self, next: Place) {
        let skip = self.distance(next);
        if skip > 0 {
            self.push(Instruction { code: JUMP, jt: 0, jf: 0, k: skip as u32 });
        }
    }

    /// Compares the accumulator with `k`.
    pub(super) fn branch(&mut self, code: u16, k: u32, yes: Place, no: Place) -> Place {
        let near = |this: &mut Self, target: Place| {
            // The other target's long jump may yet come between.
            if this.distance(target) < usize::from(u8::MAX) {
                return target;
            }
            let skip = this.distance(target) as u32;
            this.push(Instruction { code: JUMP, jt: 0, jf: 0, k: skip })
        };
        let yes = near(self, yes);
        let no = near(self, no);
        let step = |target| u8::try_from(self.distance(target)).unwrap_or(u8::MAX);
        let (jt, jf) = (step(yes), step(no));
        self.push(Instruction { code, jt, jf, k })
    }

    /// `yes` if the condition holds, else `no`. Changes the accumulator.
    pub(super) fn check(
        &mut self,
        condition: &Condition,
        wide: bool,
        yes: Place,
        no: Place,
    ) -> Place {
        let Condition { index, value, value_two, op, low32 } = *condition;
        let low_at = ARGUMENTS + index * 8;
        let high_at = low_at + 4;
        let (low, high) = (value as u32, (value >> 32) as u32);
        let with_high = wide && !low32;
        if op == Op::MaskedEq {
            let (low_two, high_two) = (value_two as u32, (value_two >> 32) as u32);
            let place = self.masked(low_at, low, low_two, yes, no);
            let high_matters = with_high && (high, high_two) != (0, 0);
            return if high_matters {
                self.masked(high_at, high, high_two, place, no)
            } else {
                place
            };
        }
        let place = match op {
            Op::Eq | Op::MaskedEq => self.branch(JUMP_EQUAL, low, yes, no),
            Op::Ne => self.branch(JUMP_EQUAL, low, no, yes),
            Op::Gt => self.branch(JUMP_GREATER, low, yes, no),
            Op::Ge => self.branch(JUMP_NOT_LESS, low, yes, no),
            Op::Lt => self.branch(JUMP_NOT_LESS, low, no, yes),
            Op::Le => self.branch(JUMP_GREATER, low, no, yes),
        };
        let place = self.then(LOAD, low_at, place);
        if !with_high {
            return place;
        }
        // The lower halves decide only where the upper ones are equal.
        let place = match op {
            Op::Eq | Op::MaskedEq => self.branch(JUMP_EQUAL, high, place, no),
            Op::Ne => self.branch(JUMP_EQUAL, high, place, yes),
            Op::Gt | Op::Ge => {
                let equal = self.branch(JUMP_EQUAL, high, place, no);
                self.branch(JUMP_GREATER, high, yes, equal)
            }
            Op::Lt | Op::Le => {
                let equal = self.branch(JUMP_EQUAL, high, place, yes);
                self.branch(JUMP_GREATER, high, no, equal)
            }
        };
        self.then(LOAD, high_at, place)
    }

    fn masked(&mut self, at: u32, mask: u32, value: u32, yes: Place, no: Place) -> Place {
        let place = self.branch(JUMP_EQUAL, value, yes, no);
        let place = self.then(AND, mask, place);
        self.then(LOAD, at, place)
    }
}
