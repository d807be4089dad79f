//! Timer sessions.

use alloc::rc::Rc;
use core::cell::RefCell;

use abi::session::timer::{self, Timer};
use abi::session::wire::Signal;
use runtime::capability::{Cap, Capability};
use runtime::entrypoint::submit;
use runtime::registry::Registry;
use runtime::root::{NewSession, Refused, Service};
use runtime::sys::tsc;

use crate::alarm::Alarm;
use crate::schedule::{ClientId, Schedule};

const US_PER_MS: u64 = 1000;

/// Microseconds of the clock that everything here uses.
fn now() -> u64 {
    tsc::to_us(tsc::now())
}

/// What the driver knows of a client.
#[derive(Debug, Default)]
struct Client {
    sigh: Option<Cap<Signal>>,
    /// An alarm came before `sigh` was set.
    missed: bool,
}

/// All clients and their times.
#[derive(Debug, Default)]
pub struct Driver {
    schedule: Schedule,
    clients: Registry<RefCell<Client>>,
    alarm: Option<Alarm>,
}

impl Driver {
    /// Lets the driver be woken.
    pub fn use_alarm(&mut self, alarm: Alarm) {
        self.alarm = Some(alarm);
    }

    /// Signals the clients that are due.
    pub fn expire(&mut self) {
        for client in self.schedule.expire(now()) {
            if let Some(client) = self.clients.get(client) {
                client.borrow_mut().notify();
            }
        }
        self.set_alarm();
    }

    fn set_alarm(&self) {
        if let Some(alarm) = &self.alarm {
            alarm.set(self.schedule.next());
        }
    }
}

impl Client {
    fn notify(&mut self) {
        match &self.sigh {
            Some(sigh) => submit(sigh),
            None => self.missed = true,
        }
    }

    fn set_sigh(&mut self, sigh: Cap<Signal>) {
        if core::mem::take(&mut self.missed) {
            submit(&sigh);
        }
        self.sigh = Some(sigh);
    }
}

/// A session.
#[derive(Debug)]
pub struct Session {
    id: ClientId,
    created: u64,
    driver: Rc<RefCell<Driver>>,
}

impl timer::Server<Capability> for Session {
    fn trigger_once(&mut self, us: u64) {
        let mut driver = self.driver.borrow_mut();
        driver.schedule.once(self.id, now(), us);
        driver.set_alarm();
    }

    fn trigger_periodic(&mut self, us: u64) {
        let mut driver = self.driver.borrow_mut();
        driver.schedule.periodic(self.id, now(), us);
        driver.set_alarm();
    }

    fn sigh(&mut self, sigh: Cap<Signal>) {
        if let Some(client) = self.driver.borrow().clients.get(self.id) {
            client.borrow_mut().set_sigh(sigh);
        }
    }

    fn elapsed_ms(&mut self) -> u64 {
        self.elapsed_us() / US_PER_MS
    }

    fn elapsed_us(&mut self) -> u64 {
        now().saturating_sub(self.created)
    }
}

/// The Timer service. Labels make no difference.
#[derive(Debug)]
pub struct TimerService {
    driver: Rc<RefCell<Driver>>,
}

impl TimerService {
    /// Serves from `driver`.
    pub fn new(driver: Rc<RefCell<Driver>>) -> Self {
        Self { driver }
    }
}

impl Service<Timer> for TimerService {
    type Session = Session;

    fn create(&mut self, _request: &NewSession<'_>) -> Result<Rc<RefCell<Session>>, Refused> {
        let id = self.driver.borrow_mut().clients.insert(RefCell::default());
        let session = Session { id, created: now(), driver: Rc::clone(&self.driver) };
        Ok(Rc::new(RefCell::new(session)))
    }

    fn close(&mut self, session: Rc<RefCell<Session>>) {
        let id = session.borrow().id;
        let mut driver = self.driver.borrow_mut();
        driver.schedule.cancel(id);
        driver.clients.remove(id);
        driver.set_alarm();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use timer::Server;

    fn service() -> (Rc<RefCell<Driver>>, TimerService) {
        let driver = Rc::new(RefCell::new(Driver::default()));
        (Rc::clone(&driver), TimerService::new(driver))
    }

    fn request() -> NewSession<'static> {
        use abi::session::{affinity::Affinity, args::Args};
        NewSession { args: Args(""), affinity: Affinity::default(), guard: runtime::quota::Guard::default() }
    }

    #[test]
    fn clients_do_not_share_times_and_closing_forgets() {
        let (driver, mut service) = service();
        let (a, b) = (service.create(&request()).unwrap(), service.create(&request()).unwrap());
        a.borrow_mut().trigger_once(1_000_000);
        b.borrow_mut().trigger_periodic(2_000_000);
        a.borrow_mut().trigger_periodic(0);
        assert!(driver.borrow().schedule.next().is_some());
        service.close(b);
        assert_eq!(driver.borrow().schedule.next(), None);
    }

    #[test]
    fn the_clock_starts_with_the_session() {
        let (_, mut service) = service();
        let session = service.create(&request()).unwrap();
        session.borrow_mut().created = now().saturating_sub(5_000);
        assert!(session.borrow_mut().elapsed_ms() >= 5);
    }
}
