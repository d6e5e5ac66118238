//! Numbers of attributes, by the message they belong to (`linux/netfilter/nf_tables.h`).

macro_rules! numbers {
    ($($name:ident = $value:expr),* $(,)?) => { $( pub(super) const $name: u16 = $value; )* };
}

numbers! {
    LIST_ELEM = 1,
    EXPR_NAME = 1, EXPR_DATA = 2,
    DATA_VALUE = 1, DATA_VERDICT = 2,
    VERDICT_CODE = 1, VERDICT_CHAIN = 2,
}
numbers! {
    TABLE_NAME = 1,
    CHAIN_TABLE = 1, CHAIN_NAME = 3, CHAIN_HOOK = 4, CHAIN_POLICY = 5, CHAIN_TYPE = 7,
    HOOK_HOOKNUM = 1, HOOK_PRIORITY = 2,
    RULE_TABLE = 1, RULE_CHAIN = 2, RULE_HANDLE = 3, RULE_EXPRESSIONS = 4, RULE_USERDATA = 7,
    SET_TABLE = 1, SET_NAME = 2, SET_FLAGS = 3, SET_KEY_TYPE = 4, SET_KEY_LEN = 5,
    SET_DATA_TYPE = 6, SET_DATA_LEN = 7, SET_ID = 10,
    ELEM_KEY = 1, ELEM_DATA = 2,
    ELEM_LIST_TABLE = 1, ELEM_LIST_SET = 2, ELEM_LIST_ELEMENTS = 3,
}
numbers! {
    IMMEDIATE_DREG = 1, IMMEDIATE_DATA = 2,
    BITWISE_SREG = 1, BITWISE_DREG = 2, BITWISE_LEN = 3, BITWISE_MASK = 4, BITWISE_XOR = 5,
    CMP_SREG = 1, CMP_OP = 2, CMP_DATA = 3,
    LOOKUP_SET = 1, LOOKUP_SREG = 2, LOOKUP_DREG = 3,
    PAYLOAD_DREG = 1, PAYLOAD_BASE = 2, PAYLOAD_OFFSET = 3, PAYLOAD_LEN = 4,
    META_DREG = 1, META_KEY = 2,
    CT_DREG = 1, CT_KEY = 2,
    NAT_TYPE = 1, NAT_FAMILY = 2, NAT_REG_ADDR_MIN = 3, NAT_REG_PROTO_MIN = 5,
    FIB_DREG = 1, FIB_RESULT = 2, FIB_FLAGS = 3,
}
