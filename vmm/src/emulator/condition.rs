//! Conditions of SETcc and CMOVcc (APM3 1.4, "Condition codes").

use iced_x86::ConditionCode;

use crate::state::Rflags;

/// A condition on the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition(pub(super) ConditionCode);

impl Condition {
    /// Whether the flags fulfil it.
    pub(super) fn holds(self, flags: Rflags) -> bool {
        let is = |flag| flags.contains(flag);
        let less = is(Rflags::SF) != is(Rflags::OF);
        match self.0 {
            ConditionCode::None => true,
            ConditionCode::o => is(Rflags::OF),
            ConditionCode::no => !is(Rflags::OF),
            ConditionCode::b => is(Rflags::CF),
            ConditionCode::ae => !is(Rflags::CF),
            ConditionCode::e => is(Rflags::ZF),
            ConditionCode::ne => !is(Rflags::ZF),
            ConditionCode::be => is(Rflags::CF) || is(Rflags::ZF),
            ConditionCode::a => !is(Rflags::CF) && !is(Rflags::ZF),
            ConditionCode::s => is(Rflags::SF),
            ConditionCode::ns => !is(Rflags::SF),
            ConditionCode::p => is(Rflags::PF),
            ConditionCode::np => !is(Rflags::PF),
            ConditionCode::l => less,
            ConditionCode::ge => !less,
            ConditionCode::le => less || is(Rflags::ZF),
            ConditionCode::g => !less && !is(Rflags::ZF),
        }
    }
}
