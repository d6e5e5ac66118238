//! Runs a program as the kernel would: to know beforehand what it lets through, and for tests.

use super::Instruction;

/// A system call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub audit: u32,
    pub number: u32,
    pub arguments: [u64; 6],
}

/// The filter's return value and how many instructions it took; `None` for a program that [`super::compile`] does
/// not make.
pub(super) fn run(program: &[Instruction], call: Call) -> Option<(u32, usize)> {
    let mut data = [0_u8; 64];
    data[..4].copy_from_slice(&call.number.to_le_bytes());
    data[4..8].copy_from_slice(&call.audit.to_le_bytes());
    for (n, argument) in call.arguments.iter().enumerate() {
        data[16 + n * 8..24 + n * 8].copy_from_slice(&argument.to_le_bytes());
    }
    let (mut at, mut accumulator, mut steps) = (0_usize, 0_u32, 0);
    loop {
        let i = program.get(at)?;
        at += 1;
        steps += 1;
        let branch = |holds: bool| usize::from(if holds { i.jt } else { i.jf });
        match i.code {
            0x20 => {
                let k = i.k as usize;
                let word = data.get(k..k.checked_add(4)?)?;
                accumulator = u32::from_le_bytes(word.try_into().ok()?);
            }
            0x54 => accumulator &= i.k,
            0x05 => at = at.checked_add(i.k as usize)?,
            0x15 => at += branch(accumulator == i.k),
            0x25 => at += branch(accumulator > i.k),
            0x35 => at += branch(accumulator >= i.k),
            0x06 => return Some((i.k, steps)),
            _ => return None,
        }
    }
}
