//! Users and groups by docker's rules, from the bytes of the container's own passwd and group files.
//!
//! What reads as a number is a number, whatever the files call themselves; else it must be a name in the
//! file. What is neither, or lies outside 0 to 2^31 - 1, is an error, never root.
//! Invariants: total on any bytes; a line that does not parse is passed over; nothing here opens a file.
//! Source: moby/sys `user.GetExecUser` and `GetAdditionalGroups` (behaviour, texts).

use crate::{
    shim::{Class, StartError},
    spec::User,
};

/// Largest user or group number.
pub const MAX_ID: u32 = i32::MAX as u32;

/// Who a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups, the primary one first, without doubles.
    pub groups: Vec<u32>,
    /// Home folder.
    pub home: String,
}

/// Resolves `user` against the contents of `/etc/passwd` and `/etc/group`.
///
/// # Errors
/// `Invalid`, with docker's text.
pub fn resolve(user: &User, passwd: &[u8], group: &[u8]) -> Result<Identity, StartError> {
    let (name, group_name) = user.name.split_once(':').unwrap_or((&user.name, ""));
    let account = account(name, passwd)?;
    let mut gid = account.gid;
    let mut groups = Vec::new();
    if !group_name.is_empty() {
        gid = match group_id(group_name, group)? {
            Some(gid) => gid,
            None => {
                return Err(invalid(format!(
                    "unable to find group {group_name}: no matching entries in group file"
                )));
            }
        };
    } else if let Some(name) = &account.name {
        groups.extend(group_lines(group).filter(|g| g.has(name)).map(|g| g.gid));
    }
    for extra in &user.additional_groups {
        match group_id(extra, group)? {
            Some(gid) => groups.push(gid),
            None => return Err(invalid(format!("Unable to find group {extra}"))),
        }
    }
    groups.insert(0, gid);
    let mut seen = std::collections::HashSet::new();
    groups.retain(|g| seen.insert(*g));
    Ok(Identity { uid: account.uid, gid, groups, home: account.home })
}

struct Account {
    name: Option<Vec<u8>>,
    uid: u32,
    gid: u32,
    home: String,
}

fn account(name: &str, passwd: &[u8]) -> Result<Account, StartError> {
    let wanted = if name.is_empty() { Some(0) } else { number(name)? };
    let found = lines(passwd).find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|b| *b == b':').collect();
        let [login, _, uid, gid, _, home, ..] = fields[..] else { return None };
        let (uid, gid) = (id(uid)?, id(gid)?);
        let meant = wanted.map_or(login == name.as_bytes(), |wanted| wanted == uid);
        let home = String::from_utf8_lossy(home).into_owned();
        meant.then(|| Account { name: Some(login.to_vec()), uid, gid, home })
    });
    match (found, wanted) {
        (Some(mut account), _) => {
            if account.home.is_empty() {
                account.home.push('/');
            }
            Ok(account)
        }
        (None, Some(uid)) => Ok(Account { name: None, uid, gid: 0, home: "/".into() }),
        (None, None) => {
            Err(invalid(format!("unable to find user {name}: no matching entries in passwd file")))
        }
    }
}

struct Group<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

impl Group<'_> {
    fn has(&self, login: &[u8]) -> bool {
        self.members.split(|b| *b == b',').any(|m| m == login)
    }
}

fn group_id(name: &str, group: &[u8]) -> Result<Option<u32>, StartError> {
    if let Some(gid) = number(name)? {
        return Ok(Some(gid));
    }
    Ok(group_lines(group).find(|g| g.name == name.as_bytes()).map(|g| g.gid))
}

fn group_lines(group: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(|line| {
        let mut fields = line.splitn(4, |b| *b == b':');
        let (name, _, gid) = (fields.next()?, fields.next()?, id(fields.next()?)?);
        Some(Group { name, gid, members: fields.next().unwrap_or_default() })
    })
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
}

/// A decimal number, with a sign as Go's `Atoi` takes one; `None` for what is a name.
fn number(text: &str) -> Result<Option<u32>, StartError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    let out_of_range = || invalid(format!("uids and gids must be in range 0-{MAX_ID}"));
    match text.parse::<i64>() {
        Ok(n) if (0..=i64::from(MAX_ID)).contains(&n) => Ok(u32::try_from(n).ok()),
        // Longer digit strings are as far out of range as those which fit.
        _ => Err(out_of_range()),
    }
}

fn id(field: &[u8]) -> Option<u32> {
    let digits = !field.is_empty() && field.iter().all(u8::is_ascii_digit);
    let number = digits.then(|| std::str::from_utf8(field).ok()?.parse::<u32>().ok())??;
    (number <= MAX_ID).then_some(number)
}

fn invalid(text: String) -> StartError {
    StartError::new(Class::Invalid, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# note\nbroken:x:zero:0::/:\n1000:x:0:0::/evil:/bin/sh\n\
        app:x:1000:1001:App,,,:/home/app:/bin/sh\nhomeless:x:5:5:::\nhuge:x:4294967296:0::/:\nneg:x:-1:0::/:\n";
    const GROUP: &[u8] = b"root:x:0:root\nbin:x:1:root,app\nwheel:x:10:root\nshort\nbad:x:x:app\napps:x:1001:\n77:x:0:\n";

    fn of(name: &str, extra: &[&str]) -> Result<Identity, String> {
        let additional_groups = extra.iter().map(|g| (*g).to_owned()).collect();
        resolve(&User { name: name.into(), additional_groups }, PASSWD, GROUP).map_err(|e| e.text)
    }

    fn ids(name: &str) -> (u32, u32, Vec<u32>) {
        let who = of(name, &[]).unwrap();
        (who.uid, who.gid, who.groups)
    }

    #[test]
    fn names_and_numbers_are_found() {
        assert_eq!(ids(""), (0, 0, vec![0, 1, 10]));
        assert_eq!(ids("app"), (1000, 1001, vec![1001, 1]));
        assert_eq!(ids("app:wheel"), (1000, 10, vec![10]));
        assert_eq!(ids("app:"), (1000, 1001, vec![1001, 1]));
        assert_eq!(ids("4242:99"), (4242, 99, vec![99]));
        assert_eq!(ids("4242"), (4242, 0, vec![0]));
        assert_eq!(ids("2147483647").0, MAX_ID);
        assert_eq!(of("homeless", &[]).unwrap().home, "/");
        assert_eq!(of("app", &["wheel", "5", "1"]).unwrap().groups, [1001, 1, 10, 5]);
    }

    #[test]
    fn a_number_is_never_a_name() {
        assert_eq!(ids("1000").0, 1000);
        assert_eq!(ids("app:77").1, 77);
        assert_eq!(ids("00").0, 0);
    }

    #[test]
    fn nothing_else_becomes_root() {
        let range = "uids and gids must be in range 0-2147483647";
        for bad in ["2147483648", "4294967296", "-1", "99999999999999999999999", "1:4294967296"] {
            assert_eq!(of(bad, &[]).unwrap_err(), range, "{bad}");
        }
        for bad in ["0x0", "\u{ff14}", "broken", "huge", "neg", "nobody", " "] {
            let want = format!("unable to find user {bad}: no matching entries in passwd file");
            assert_eq!(of(bad, &[]).unwrap_err(), want);
        }
        assert_eq!(
            of("0:bad", &[]).unwrap_err(),
            "unable to find group bad: no matching entries in group file"
        );
        assert_eq!(of("0", &["none"]).unwrap_err(), "Unable to find group none");
        assert_eq!(of("0", &["4294967296"]).unwrap_err(), range);
    }

    proptest! {
        #[test]
        fn no_bytes_make_root_of_a_name(passwd in proptest::collection::vec(any::<u8>(), 0..400), name in "[a-z]{1,4}[0-9]{0,3}") {
            let user = User { name: name.clone(), additional_groups: vec![] };
            if let Ok(who) = resolve(&user, &passwd, &passwd) {
                let line = passwd.split(|b| *b == b'\n').any(|l| l.trim_ascii().starts_with(name.as_bytes()));
                prop_assert!(line && who.uid <= MAX_ID);
            }
        }
    }
}
