//! Timer tick: logs a line every second, as many times as `<config ticks="..">` says; without it, for ever. Says so when it is late.
#![cfg_attr(kilonova, no_std, no_main)]
#![forbid(unsafe_code)]

use abi::session::timer::Timer;
use core::time::Duration;
use runtime::config::{self, number};
use runtime::rom::AttachedRom;
use runtime::{Env, Error, log};

runtime::component!(construct);

const PERIOD: Duration = Duration::from_secs(1);

fn construct(env: &'static Env) -> Result<(), Error> {
    let config = AttachedRom::open(env, "config")?.text()?;
    let limit = config::read(&config, |config| number(config, "ticks"))?;
    let timer = env.connect::<Timer>("")?;
    let clock = (*timer).clone();
    let beginning = clock.elapsed_us()?;
    let mut ticks = 0_u32;
    let handler = env.entrypoint().signal_handler(move |count| {
        for _ in 0..count {
            ticks += 1;
            log!("timer tick {ticks}");
            let elapsed = Duration::from_micros(clock.elapsed_us().unwrap_or_default().saturating_sub(beginning));
            if elapsed > PERIOD * (ticks + 2) {
                log!("late: it is {elapsed:?}");
            }
            if Some(u64::from(ticks)) == limit {
                env.exit(0);
            }
        }
    })?;
    timer.sigh(handler.cap())?;
    timer.trigger_periodic(PERIOD.as_micros() as u64)?;
    core::mem::forget((timer, handler));
    Ok(())
}
