//! What is in the packet filter.

use super::{Nft, attributes as a, message};
use crate::netlink::{Attributes, Message, Request, Result};
use rustix::io::Errno;

/// An element of a set, or of a map with its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Element {
    /// The key, each part padded to four bytes.
    pub key: Vec<u8>,
    /// The value; `None` in a set, and to delete.
    pub value: Option<Vec<u8>>,
}

impl Element {
    pub(super) fn write(&self, m: Message) -> Message {
        let m = m.nest(a::ELEM_KEY, |m| m.with(a::DATA_VALUE, &self.key));
        match &self.value {
            Some(value) => m.nest(a::ELEM_DATA, |m| m.with(a::DATA_VALUE, value)),
            None => m,
        }
    }
}

impl Nft {
    /// Names of all tables of the family.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn tables(&mut self) -> Result<Vec<String>> {
        let request = Request::new(message(self.family, libc::NFT_MSG_GETTABLE, 0), "list tables");
        let replies = self.socket.list(&request)?;
        Ok(replies
            .iter()
            .filter_map(|r| Attributes::after(&r.payload, 4).text(a::TABLE_NAME))
            .collect())
    }

    /// The chain of each rule of a table; empty when the table is not there.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn rules(&mut self, table: &str) -> Result<Vec<String>> {
        let m = message(self.family, libc::NFT_MSG_GETRULE, 0).with_str(a::RULE_TABLE, table);
        let replies = self.socket.list(&Request::new(m, format!("list rules of {table}")));
        let replies = if_there(replies)?;
        let rules = replies.iter().map(|r| Attributes::after(&r.payload, 4));
        // Old kernels ignore the filter.
        let own = rules.filter(|rule| rule.text(a::RULE_TABLE).is_some_and(|name| name == table));
        Ok(own.filter_map(|rule| rule.text(a::RULE_CHAIN)).collect())
    }

    /// All elements of a set or map, in no order; `None` when it is not there.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn elements(&mut self, table: &str, set: &str) -> Result<Option<Vec<Element>>> {
        let m = message(self.family, libc::NFT_MSG_GETSETELEM, 0)
            .with_str(a::ELEM_LIST_TABLE, table)
            .with_str(a::ELEM_LIST_SET, set);
        let replies =
            match self.socket.list(&Request::new(m, format!("list elements of {table} {set}"))) {
                Err(error) if error.errno == Errno::NOENT => return Ok(None),
                other => other?,
            };
        let lists =
            replies.iter().map(|r| Attributes::after(&r.payload, 4).nested(a::ELEM_LIST_ELEMENTS));
        Ok(Some(lists.flatten().filter_map(|(_, element)| parse(element)).collect()))
    }
}

fn if_there<T: Default>(result: Result<T>) -> Result<T> {
    match result {
        Err(error) if error.errno == Errno::NOENT => Ok(T::default()),
        other => other,
    }
}

fn parse(element: &[u8]) -> Option<Element> {
    let element = Attributes::new(element);
    let key = element.nested(a::ELEM_KEY).value(a::DATA_VALUE)?.to_vec();
    let value = element.nested(a::ELEM_DATA).value(a::DATA_VALUE).map(<[u8]>::to_vec);
    Some(Element { key, value })
}
