//! Expressions: what a rule does, one after another, over sixteen registers of four bytes.

use super::{Family, attributes as a};
use crate::netlink::Message;

/// Where a value is put or taken: one of sixteen cells of four bytes. A longer value takes the following
/// cells too, which is how keys of several parts are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(pub u8);

impl Register {
    fn number(self) -> u32 {
        libc::NFT_REG32_00 as u32 + u32::from(self.0 % 16)
    }
}

/// Facts about a packet outside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta {
    /// Name of the link it came in by, 16 bytes.
    InputName,
    /// Name of the link it leaves by, 16 bytes.
    OutputName,
    /// Kind of the link it came in by, such as `bridge`, 16 bytes; hardware has none, which ends the rule.
    InputKind,
    /// Kind of the link it leaves by.
    OutputKind,
    /// Number of the transport protocol, one byte.
    Transport,
    /// Marks that others put on the packet, four bytes in the machine's order.
    Mark,
}

/// Facts about the connection a packet belongs to, four bytes in the machine's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ct {
    /// Bits of the state: 2 established, 4 related, 8 new.
    State,
    /// Bits of the status: 0x20 the destination was changed.
    Status,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cmp {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on to the next base chain.
    Accept,
    /// Ends here.
    Drop,
    /// Back to the calling chain.
    Return,
    /// To another chain and back.
    Jump(String),
}

/// One expression. A comparison or lookup that fails ends the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Puts a fact about the packet into a register.
    Meta(Meta, Register),
    /// Puts a fact about the connection into a register.
    Ct(Ct, Register),
    /// Puts bytes of the IP header into a register: offset and length.
    Network(u32, u32, Register),
    /// Puts bytes of the transport header into a register: offset and length.
    TransportHeader(u32, u32, Register),
    /// Puts the kind of the destination address into a register, four bytes in the machine's order: 2 is
    /// an address of this machine.
    DestinationKind(Register),
    /// Masks a register.
    And(Register, Vec<u8>),
    /// Compares a register with a value.
    Cmp(Register, Cmp, Vec<u8>),
    /// Looks a register up in a set.
    InSet(Register, String),
    /// Looks a register up in a map and puts the value into another.
    Map(Register, String, Register),
    /// Changes the destination to the address in one register and the port in another.
    Dnat(Register, Register),
    /// Changes the source to the address in a register.
    Snat(Register),
    /// Puts a value into a register.
    Value(Register, Vec<u8>),
    /// Changes the source to the address of the link the packet leaves by.
    Masquerade,
    /// Decides.
    Verdict(Verdict),
}

impl Expr {
    /// True when the packet came in by this link. Two expressions.
    pub fn input(name: &str, cmp: Cmp) -> [Self; 2] {
        [Self::Meta(Meta::InputName, Register(0)), Self::Cmp(Register(0), cmp, link_name(name))]
    }

    /// True when the packet leaves by this link.
    pub fn output(name: &str, cmp: Cmp) -> [Self; 2] {
        [Self::Meta(Meta::OutputName, Register(0)), Self::Cmp(Register(0), cmp, link_name(name))]
    }

    /// True when the packet came in by a link of this kind. Two expressions.
    pub fn input_kind(kind: &str) -> [Self; 2] {
        [Self::Meta(Meta::InputKind, Register(0)), Self::Cmp(Register(0), Cmp::Eq, link_name(kind))]
    }

    /// True when the packet leaves by a link of this kind.
    pub fn output_kind(kind: &str) -> [Self; 2] {
        [
            Self::Meta(Meta::OutputKind, Register(0)),
            Self::Cmp(Register(0), Cmp::Eq, link_name(kind)),
        ]
    }

    /// True when the source address lies in this network; both are four or sixteen bytes.
    pub fn source(network: &[u8], mask: &[u8]) -> [Self; 3] {
        Self::address(if network.len() == 4 { 12 } else { 8 }, network, mask)
    }

    /// True when the destination address lies in this network; both are four or sixteen bytes.
    pub fn destination(network: &[u8], mask: &[u8]) -> [Self; 3] {
        Self::address(if network.len() == 4 { 16 } else { 24 }, network, mask)
    }

    fn address(offset: u32, network: &[u8], mask: &[u8]) -> [Self; 3] {
        let r = Register(0);
        [
            Self::Network(offset, network.len() as u32, r),
            Self::And(r, mask.to_vec()),
            Self::Cmp(r, Cmp::Eq, network.to_vec()),
        ]
    }

    /// True when the connection has one of these bits.
    pub fn ct(key: Ct, bits: u32) -> [Self; 3] {
        let r = Register(0);
        [
            Self::Ct(key, r),
            Self::And(r, bits.to_ne_bytes().to_vec()),
            Self::Cmp(r, Cmp::Ne, vec![0; 4]),
        ]
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Meta(..) => "meta",
            Self::Ct(..) => "ct",
            Self::Network(..) | Self::TransportHeader(..) => "payload",
            Self::DestinationKind(_) => "fib",
            Self::And(..) => "bitwise",
            Self::Cmp(..) => "cmp",
            Self::InSet(..) | Self::Map(..) => "lookup",
            Self::Dnat(..) | Self::Snat(_) => "nat",
            Self::Masquerade => "masq",
            Self::Verdict(_) | Self::Value(..) => "immediate",
        }
    }

    /// Writes the expression as an element of a list.
    pub(super) fn write(&self, message: Message, family: Family) -> Message {
        message.nest(a::LIST_ELEM, |m| {
            m.with_str(a::EXPR_NAME, self.name()).nest(a::EXPR_DATA, |m| self.write_data(m, family))
        })
    }

    fn write_data(&self, m: Message, family: Family) -> Message {
        match self {
            Self::Meta(key, to) => {
                let key = match key {
                    Meta::InputName => libc::NFT_META_IIFNAME,
                    Meta::OutputName => libc::NFT_META_OIFNAME,
                    Meta::InputKind => 26,  // NFT_META_IIFKIND
                    Meta::OutputKind => 27, // NFT_META_OIFKIND
                    Meta::Transport => libc::NFT_META_L4PROTO,
                    Meta::Mark => libc::NFT_META_MARK,
                };
                m.with_be32(a::META_DREG, to.number()).with_be32(a::META_KEY, key as u32)
            }
            Self::Ct(key, to) => {
                let key = match key {
                    Ct::State => libc::NFT_CT_STATE,
                    Ct::Status => libc::NFT_CT_STATUS,
                };
                m.with_be32(a::CT_DREG, to.number()).with_be32(a::CT_KEY, key as u32)
            }
            Self::Network(offset, length, to) => {
                write_payload(m, libc::NFT_PAYLOAD_NETWORK_HEADER, *offset, *length, *to)
            }
            Self::TransportHeader(offset, length, to) => {
                write_payload(m, libc::NFT_PAYLOAD_TRANSPORT_HEADER, *offset, *length, *to)
            }
            Self::DestinationKind(to) => {
                const ADDRESS_TYPE: u32 = 3; // NFT_FIB_RESULT_ADDRTYPE
                const DESTINATION: u32 = 2; // NFTA_FIB_F_DADDR
                m.with_be32(a::FIB_DREG, to.number())
                    .with_be32(a::FIB_RESULT, ADDRESS_TYPE)
                    .with_be32(a::FIB_FLAGS, DESTINATION)
            }
            Self::And(register, mask) => m
                .with_be32(a::BITWISE_SREG, register.number())
                .with_be32(a::BITWISE_DREG, register.number())
                .with_be32(a::BITWISE_LEN, mask.len() as u32)
                .nest(a::BITWISE_MASK, |m| m.with(a::DATA_VALUE, mask))
                .nest(a::BITWISE_XOR, |m| m.with(a::DATA_VALUE, &vec![0; mask.len()])),
            Self::Cmp(register, cmp, value) => {
                let cmp = match cmp {
                    Cmp::Eq => libc::NFT_CMP_EQ,
                    Cmp::Ne => libc::NFT_CMP_NEQ,
                };
                m.with_be32(a::CMP_SREG, register.number())
                    .with_be32(a::CMP_OP, cmp as u32)
                    .nest(a::CMP_DATA, |m| m.with(a::DATA_VALUE, value))
            }
            Self::InSet(key, set) => {
                m.with_str(a::LOOKUP_SET, set).with_be32(a::LOOKUP_SREG, key.number())
            }
            Self::Map(key, map, to) => m
                .with_str(a::LOOKUP_SET, map)
                .with_be32(a::LOOKUP_SREG, key.number())
                .with_be32(a::LOOKUP_DREG, to.number()),
            Self::Dnat(address, port) => m
                .with_be32(a::NAT_TYPE, libc::NFT_NAT_DNAT as u32)
                .with_be32(a::NAT_FAMILY, family.number().into())
                .with_be32(a::NAT_REG_ADDR_MIN, address.number())
                .with_be32(a::NAT_REG_PROTO_MIN, port.number()),
            Self::Snat(address) => m
                .with_be32(a::NAT_TYPE, libc::NFT_NAT_SNAT as u32)
                .with_be32(a::NAT_FAMILY, family.number().into())
                .with_be32(a::NAT_REG_ADDR_MIN, address.number()),
            Self::Value(to, value) => m
                .with_be32(a::IMMEDIATE_DREG, to.number())
                .nest(a::IMMEDIATE_DATA, |m| m.with(a::DATA_VALUE, value)),
            Self::Masquerade => m,
            Self::Verdict(verdict) => m
                .with_be32(a::IMMEDIATE_DREG, libc::NFT_REG_VERDICT as u32)
                .nest(a::IMMEDIATE_DATA, |m| m.nest(a::DATA_VERDICT, |m| verdict.write(m))),
        }
    }
}

impl Verdict {
    fn write(&self, m: Message) -> Message {
        let code = |m: Message, code: i32| m.with_be32(a::VERDICT_CODE, code.cast_unsigned());
        match self {
            Self::Accept => code(m, libc::NF_ACCEPT),
            Self::Drop => code(m, libc::NF_DROP),
            Self::Return => code(m, libc::NFT_RETURN),
            Self::Jump(chain) => code(m, libc::NFT_JUMP).with_str(a::VERDICT_CHAIN, chain),
        }
    }
}

fn write_payload(m: Message, base: libc::c_int, offset: u32, length: u32, to: Register) -> Message {
    m.with_be32(a::PAYLOAD_DREG, to.number())
        .with_be32(a::PAYLOAD_BASE, base as u32)
        .with_be32(a::PAYLOAD_OFFSET, offset)
        .with_be32(a::PAYLOAD_LEN, length)
}

fn link_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(libc::IFNAMSIZ, 0);
    bytes
}
