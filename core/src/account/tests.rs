//! Who may give what to whom, and that nothing is created or lost.

use super::*;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use proptest::prelude::*;

/// Unused pages of each kernel account.
#[derive(Clone, Debug)]
struct Kernel(Rc<RefCell<Vec<u64>>>);

impl KernelAccounts for Kernel {
    fn move_pages(&self, from: Sel, to: Sel, pages: u64) -> Result<(), AccountError> {
        let mut unused = self.0.borrow_mut();
        let (from, to) = (from.0 as usize, to.0 as usize);
        unused[from] = unused[from].checked_sub(pages).ok_or(AccountError::OutOfCaps)?;
        unused[to] += pages;
        Ok(())
    }
}

const TOTAL: Resources = Resources { ram: 1 << 20, caps: 1000 };

fn ledger() -> (Ledger<Kernel>, AccountId, Kernel) {
    let kernel = Kernel(Rc::new(RefCell::new(alloc::vec![TOTAL.caps])));
    let (ledger, root) = Ledger::new(kernel.clone(), TOTAL);
    (ledger, root, kernel)
}

fn slot(n: usize) -> Sel {
    Sel(n as u64)
}

fn some(n: u64) -> Resources {
    Resources { ram: n * 16, caps: n }
}

#[test]
fn siblings_cannot_trade() {
    let (mut ledger, root, _) = ledger();
    let a = ledger.open(root, some(10)).unwrap();
    let b = ledger.open(root, some(10)).unwrap();
    ledger.set_reference(a, root).unwrap();
    ledger.set_reference(b, root).unwrap();
    ledger.transfer(root, a, some(10)).unwrap();
    assert_eq!(ledger.transfer(a, b, some(1)), Err(AccountError::Invalid));
    assert_eq!(ledger.transfer(a, a, some(99)), Ok(()));
}

#[test]
fn the_reference_account_is_set_once() {
    let (mut ledger, root, _) = ledger();
    let a = ledger.open(root, some(10)).unwrap();
    let b = ledger.open(root, some(10)).unwrap();
    assert_eq!(ledger.set_reference(a, a), Err(AccountError::Invalid));
    ledger.set_reference(a, root).unwrap();
    assert_eq!(ledger.set_reference(a, b), Err(AccountError::Invalid));
    assert_eq!(ledger.transfer(b, a, some(0)), Err(AccountError::Invalid));
}

#[test]
fn the_donation_itself_cannot_be_transferred() {
    let (mut ledger, root, _) = ledger();
    let a = ledger.open(root, some(10)).unwrap();
    ledger.set_reference(a, root).unwrap();
    ledger.transfer(root, a, some(5)).unwrap();
    assert_eq!(ledger.transfer(a, root, some(6)), Err(AccountError::OutOfRam));
    ledger.transfer(a, root, some(5)).unwrap();
}

#[test]
fn what_the_component_spent_in_the_kernel_cannot_be_moved() {
    let (mut ledger, root, kernel) = ledger();
    let a = ledger.open(root, Resources::NONE).unwrap();
    kernel.0.borrow_mut().push(0);
    ledger.set_purse(a, slot(1)).unwrap();
    ledger.set_reference(a, root).unwrap();
    ledger.transfer(root, a, some(20)).unwrap();
    kernel.0.borrow_mut()[1] -= 15;
    assert_eq!(ledger.transfer(a, root, some(6)), Err(AccountError::OutOfCaps));
    assert_eq!(ledger.charge(a, some(6)), Err(AccountError::OutOfCaps));
    ledger.charge(a, some(5)).unwrap();
    assert_eq!(ledger.quota(a), Ok(some(20)));
}

#[test]
fn an_account_that_still_pays_cannot_be_closed() {
    let (mut ledger, root, _) = ledger();
    let a = ledger.open(root, some(10)).unwrap();
    ledger.charge(a, some(1)).unwrap();
    assert_eq!(ledger.close(a), Err(AccountError::InUse));
    assert_eq!(ledger.credit(a, some(2)), Err(AccountError::Invalid));
    ledger.credit(a, some(1)).unwrap();
    ledger.close(a).unwrap();
    assert_eq!(ledger.quota(root), Ok(TOTAL));
}

#[test]
fn heirs_get_what_a_closed_account_had() {
    let (mut ledger, root, _) = ledger();
    let a = ledger.open(root, some(10)).unwrap();
    ledger.set_reference(a, root).unwrap();
    let b = ledger.open(root, some(10)).unwrap();
    ledger.set_reference(b, a).unwrap();
    ledger.transfer(root, a, some(30)).unwrap();
    ledger.transfer(a, b, some(20)).unwrap();
    ledger.close(a).unwrap();
    ledger.transfer(b, root, some(20)).unwrap();
    ledger.close(b).unwrap();
    assert_eq!(ledger.quota(root), Ok(TOTAL));
}

proptest! {
    #[test]
    fn nothing_is_created_or_lost(
        ops in prop::collection::vec((0..7u8, any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..200u64), 0..200)
    ) {
        let (mut ledger, root, kernel) = ledger();
        let mut ids = alloc::vec![root];
        for (op, a, b, n) in ops {
            let (a, b) = (*a.get(&ids), *b.get(&ids));
            let before = ledger.clone();
            let pages = kernel.0.borrow().clone();
            let result = match op {
                0 => ledger.open(a, some(n)).map(|id| ids.push(id)),
                1 => ledger.upgrade(a, some(n)),
                2 => ledger.set_reference(a, b),
                3 => ledger.transfer(a, b, some(n)),
                4 => ledger.charge(a, some(n)),
                5 => ledger.credit(a, some(n)),
                _ => ledger.close(a).map(|()| ids.retain(|&id| id != a)),
            };
            if result.is_err() {
                for &id in &ids {
                    prop_assert_eq!(before.quota(id), ledger.quota(id));
                    prop_assert_eq!(before.used(id), ledger.used(id));
                }
                prop_assert_eq!(pages, kernel.0.borrow().clone());
            }
            prop_assert_eq!(ledger.total(), TOTAL);
            for &id in &ids {
                let (quota, used) = (ledger.quota(id).unwrap(), ledger.used(id).unwrap());
                prop_assert!(used.ram <= quota.ram && used.caps <= quota.caps);
            }
        }
    }

    #[test]
    fn purses_hold_what_is_not_spent(
        ops in prop::collection::vec((0..4u8, any::<prop::sample::Index>(), 0..100u64), 0..100)
    ) {
        let (mut ledger, root, kernel) = ledger();
        let mut ids = Vec::new();
        for _ in 0..4 {
            let id = ledger.open(root, Resources::NONE).unwrap();
            kernel.0.borrow_mut().push(0);
            ids.push(id);
            ledger.set_purse(id, slot(ids.len())).unwrap();
            ledger.set_reference(id, root).unwrap();
        }
        for (op, a, n) in ops {
            let a = *a.get(&ids);
            let _ = match op {
                0 => ledger.transfer(root, a, some(n)),
                1 => ledger.transfer(a, root, some(n)),
                2 => ledger.charge(a, some(n)),
                _ => ledger.credit(a, some(n)),
            };
            for (n, &id) in ids.iter().enumerate() {
                let rest = ledger.quota(id).unwrap().saturating_sub(ledger.used(id).unwrap());
                prop_assert_eq!(kernel.0.borrow()[n + 1], rest.caps);
            }
        }
    }
}
