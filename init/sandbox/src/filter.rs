//! What a parent changes in the session requests of its children: labels, donations, priorities, affinities.

use crate::config::{AffinityBox, AffinitySpace, Config, Start};
use abi::session::affinity::Affinity;
use abi::session::args::{Args, LABEL, Unwritable};
use abi::session::cpu::{self, PRIORITY, PRIORITY_LIMIT};
use abi::session::parent::{ARGS_MAX, Quota};
use abi::session::rpc::Interface;
use abi::session::vm;
use abi::session::wire::Text;
use alloc::string::ToString;

/// The arguments that a server sees.
///
/// # Errors
/// They are too long.
pub fn args(
    config: &Config,
    start: &Start,
    service: &str,
    given: Args<'_>,
    label: &str,
    donation: Quota,
) -> Result<Text<ARGS_MAX>, Unwritable> {
    let args = given.with(LABEL, label)?;
    let args = Args(&args).with_quota(donation)?;
    if service != cpu::Cpu::NAME && service != vm::Vm::NAME {
        return Ok(args);
    }
    let wish = Args(&args).number(PRIORITY).unwrap_or(0);
    Args(&args).with(PRIORITY, &priority(config.prio_levels, start.priority, wish).to_string())
}

/// The priority that a child's wish means: its band is one of `levels`, `priority` (not above 0) bands below the highest.
fn priority(levels: u64, priority: i64, wish: u64) -> u64 {
    let wish = wish.min(PRIORITY_LIMIT - 1);
    if levels == 0 {
        return wish;
    }
    let band = priority.unsigned_abs().min(levels - 1);
    (band * PRIORITY_LIMIT + wish) / levels
}

/// The affinity that a child's wish means: a part of its box.
#[must_use]
pub fn affinity(space: AffinitySpace, child: Option<AffinityBox>, wish: &Affinity) -> Affinity {
    let whole = AffinityBox { x: 0, y: 0, width: space.width, height: space.height };
    let child = child.unwrap_or(whole);
    let none = Affinity::default();
    let own = compose(space, child, &Affinity { space_width: 1, space_height: 1, width: 1, height: 1, ..none });
    let part = if wish.is_valid() { compose(space, child, wish) } else { None };
    part.or(own).filter(Affinity::is_valid).unwrap_or_default()
}

/// Spaces multiply and positions scale; `None` if numbers get too large.
fn compose(space: AffinitySpace, child: AffinityBox, wish: &Affinity) -> Option<Affinity> {
    let axis = |space: u32, start: u32, extent: u32, wish_space: u16, wish_start: u16, wish_extent: u16| {
        let (wish_space, wish_start, wish_extent) =
            (u32::from(wish_space), u32::from(wish_start), u32::from(wish_extent));
        let narrow = |wide: Option<u32>| u16::try_from(wide?).ok();
        let first = start.checked_mul(wish_space)?.checked_add(wish_start.checked_mul(extent)?);
        Some((narrow(space.checked_mul(wish_space))?, narrow(first)?, narrow(wish_extent.checked_mul(extent))?))
    };
    let (space_width, x, width) = axis(space.width, child.x, child.width, wish.space_width, wish.x, wish.width)?;
    let (space_height, y, height) = axis(space.height, child.y, child.height, wish.space_height, wish.y, wish.height)?;
    Some(Affinity { space_width, space_height, x, y, width, height })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPACE: AffinitySpace = AffinitySpace { width: 4, height: 1 };

    fn at(space_width: u16, x: u16, width: u16) -> Affinity {
        Affinity { space_width, space_height: 1, x, y: 0, width, height: 1 }
    }

    #[test]
    fn priorities_stay_in_the_band() {
        for (levels, own, wish, expected) in [
            (0, -3, 5, 5),
            (1, -3, 5, 5),
            (4, 0, 0, 0),
            (4, -1, 0, 16384),
            (4, -1, 65535, 32767),
            (4, -3, u64::MAX, 65535),
            (4, -9, 0, 49152),
            (4, i64::MIN, 0, 49152),
            (PRIORITY_LIMIT, i64::MIN, u64::MAX, PRIORITY_LIMIT - 1),
        ] {
            assert_eq!(priority(levels, own, wish), expected, "{levels} {own} {wish}");
        }
    }

    #[test]
    fn affinities_stay_in_the_box() {
        let right_half = Some(AffinityBox { x: 2, y: 0, width: 2, height: 1 });
        assert_eq!(affinity(SPACE, right_half, &Affinity::default()), at(4, 2, 2));
        assert_eq!(affinity(SPACE, right_half, &at(2, 1, 1)), at(8, 6, 2));
        assert_eq!(affinity(SPACE, None, &at(4, 3, 1)), at(16, 12, 4));
        assert_eq!(affinity(SPACE, right_half, &at(u16::MAX, 1, 1)), at(4, 2, 2));
        assert_eq!(
            affinity(SPACE, Some(AffinityBox { x: 9, y: 0, width: 1, height: 1 }), &at(1, 0, 1)),
            Affinity::default()
        );
    }

    proptest! {
        #[test]
        fn a_wish_never_leaves_the_box(x in 0u32..4, width in 1u32..5, space in 1u16..50, at_x in 0u16..50, extent in 0u16..50) {
            let child = AffinityBox { x, y: 0, width, height: 1 };
            let result = affinity(SPACE, Some(child), &at(space, at_x, extent));
            if x + width <= 4 {
                prop_assert!(result.is_valid());
                let scale = |column: u32| column * u32::from(result.space_width) / 4;
                prop_assert!(u32::from(result.x) >= scale(x));
                prop_assert!(u32::from(result.x) + u32::from(result.width) <= scale(x + width));
            }
        }
    }
}
