use super::*;

fn rule(allow: bool, kind: char, major: i64, minor: i64, access: &str) -> DeviceRule {
    DeviceRule {
        allow,
        kind: Some(kind),
        major: Some(major),
        minor: Some(minor),
        access: Some(access.into()),
    }
}

/// Runs the program as the kernel would.
fn run(program: &[Bpf], kind: u32, major: u32, minor: u32, access: u8) -> bool {
    let context = [u32::from(access) << 16 | kind, major, minor];
    let mut registers = [0_u64; 11];
    let mut at = 0;
    loop {
        let i = program[at];
        at += 1;
        let (to, from) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
        let wide = i64::from(i.immediate) as u64;
        let jumps = match i.code {
            LOAD_WORD => {
                registers[to] = u64::from(context[i.offset as usize / 4]);
                false
            }
            COPY => {
                registers[to] = registers[from];
                false
            }
            SET => {
                registers[to] = wide;
                false
            }
            AND => {
                registers[to] &= wide;
                false
            }
            SHIFT_RIGHT => {
                registers[to] >>= wide;
                false
            }
            IF_EQUAL => registers[to] as u32 == i.immediate as u32,
            IF_NOT_EQUAL => registers[to] as u32 != i.immediate as u32,
            0x95 => return registers[0] != 0,
            other => panic!("instruction {other:#x}"),
        };
        if jumps {
            at += i.offset as usize;
        }
    }
}

/// What the v1 controller would say.
fn judged(state: &State, kind: char, major: u32, minor: u32, access: u8) -> bool {
    let mut matching = state.exceptions.iter().filter(|((k, ma, mi), _)| {
        *k == kind && ma.is_none_or(|n| n == major) && mi.is_none_or(|n| n == minor)
    });
    if state.allow {
        !matching.any(|(_, held)| held & access != 0)
    } else {
        matching.any(|(_, held)| access & !held == 0)
    }
}

#[test]
fn rules_come_to_lines_of_v1() {
    let rules = [
        DeviceRule { allow: false, access: Some("rwm".into()), ..DeviceRule::default() },
        rule(true, 'c', -1, -1, "m"),
        rule(true, 'c', 1, 3, "r"),
        rule(true, 'c', 1, 3, "wm"),
        rule(true, 'b', 8, -1, "rw"),
        rule(false, 'b', 8, -1, "w"),
        rule(false, 'c', 10, 229, "rwm"),
    ];
    let state = State::of(&rules).unwrap();
    let lines: Vec<String> =
        state.v1_lines().into_iter().map(|(file, line)| format!("{file} {line}")).collect();
    assert_eq!(
        lines,
        [
            "devices.deny a",
            "devices.allow b 8:* r",
            "devices.allow c *:* m",
            "devices.allow c 1:3 rwm"
        ]
    );
    assert!(State::of(&[]).unwrap().is_open());
    assert!(State::of(&[rule(true, 'x', 1, 1, "r")]).is_err());
    assert!(State::of(&[rule(true, 'c', 1, 1, "z")]).is_err());
    assert!(State::of(&[rule(true, 'c', -2, 1, "r")]).is_err());
}

#[test]
fn an_open_state_with_exceptions_denies_those() {
    let state = State::of(&[
        DeviceRule { allow: true, ..DeviceRule::default() },
        rule(false, 'b', 254, -1, "w"),
    ])
    .unwrap();
    let program = state.program();
    assert!(!run(&program, 1, 254, 0, WRITE | READ));
    assert!(run(&program, 1, 254, 0, READ));
    assert!(run(&program, 2, 254, 0, WRITE));
}

proptest::proptest! {
    #[test]
    fn the_program_judges_as_v1_does(
        rules in proptest::collection::vec((proptest::bool::ANY, 0..3_usize, -1..3_i64, -1..3_i64, 1..8_u8), 0..12),
        first: bool,
    ) {
        let mut all = vec![DeviceRule { allow: first, ..DeviceRule::default() }];
        all.extend(rules.into_iter().map(|(allow, kind, major, minor, access)| {
            let letters: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
                .into_iter().filter(|(b, _)| access & b != 0).map(|(_, l)| l).collect();
            rule(allow, ['b', 'c', 'c'][kind], major, minor, &letters)
        }));
        let state = State::of(&all).unwrap();
        let program = state.program();
        for (number, kind) in [(1, 'b'), (2, 'c')] {
            for major in [0, 1, 2, 0x8000_0000] {
                for minor in [0, 1, 2] {
                    for access in 1..8 {
                        proptest::prop_assert_eq!(
                            run(&program, number, major, minor, access),
                            judged(&state, kind, major, minor, access)
                        );
                    }
                }
            }
        }
    }
}
