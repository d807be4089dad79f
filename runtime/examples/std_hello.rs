//! An ordinary program: nothing but its first line knows of Kilonova. On a host it prints the same.
#![forbid(unsafe_code)]

use runtime_libc as _;

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, mpsc};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

/// Stack of the threads here: a thread pays for all of it.
const STACK: usize = 64 * 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("hello from std, on thread {:?}", thread::current().name());
    let words: HashMap<_, _> = ["one", "two", "three"].into_iter().zip(1..).collect();
    println!("three is {}", words["three"]);
    contend()?;
    exchange()?;
    destroy()?;
    sleep();
    println!("a file: {}", std::fs::read("/etc/passwd").map_or_else(|error| error.to_string(), |_| "there".into()));
    Ok(())
}

/// Threads that take turns holding a lock for longer than it takes another to want it.
fn contend() -> std::io::Result<()> {
    const THREADS: u32 = 4;
    const ROUNDS: u32 = 500;
    let sum = Mutex::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            Builder::new().stack_size(STACK).spawn_scoped(scope, || {
                for _ in 0..ROUNDS {
                    if let Ok(mut sum) = sum.lock() {
                        let before = *sum;
                        thread::yield_now();
                        *sum = before + 1;
                    }
                }
            })?;
        }
        Ok::<_, std::io::Error>(())
    })?;
    println!("{THREADS} threads counted to {}", sum.lock().map_or(0, |sum| *sum));
    Ok(())
}

/// A channel, a condition variable, and a wait that nobody ends.
fn exchange() -> Result<(), Box<dyn std::error::Error>> {
    let (sender, receiver) = mpsc::channel();
    let producer = Builder::new().stack_size(STACK).spawn(move || (1..=3).try_for_each(|item| sender.send(item)))?;
    println!("received {:?}", receiver.iter().collect::<Vec<u32>>());
    println!("joined: {}", producer.join().is_ok());
    let (lock, condition) = (Mutex::new(()), Condvar::new());
    let guard = lock.lock().map_err(|error| error.to_string())?;
    let (_guard, wait) = condition.wait_timeout(guard, Duration::from_millis(5)).map_err(|error| error.to_string())?;
    println!("timed out: {}", wait.timed_out());
    Ok(())
}

static DESTROYED: AtomicU32 = AtomicU32::new(0);

struct Noisy(Cell<u32>);

impl Drop for Noisy {
    fn drop(&mut self) {
        DESTROYED.fetch_add(self.0.get(), Ordering::Relaxed);
    }
}

thread_local! {
    static LOCAL: Noisy = const { Noisy(Cell::new(40)) };
}

/// Each thread has its own variable, which is destroyed with it.
fn destroy() -> std::io::Result<()> {
    let thread = Builder::new().stack_size(STACK).spawn(|| LOCAL.with(|local| local.0.set(local.0.get() + 2)))?;
    println!("joined: {}", thread.join().is_ok());
    println!("destroyed {}, own {}", DESTROYED.load(Ordering::Relaxed), LOCAL.with(|local| local.0.get()));
    Ok(())
}

fn sleep() {
    const NAP: Duration = Duration::from_millis(20);
    let start = Instant::now();
    thread::sleep(NAP);
    let slept = start.elapsed();
    println!("slept enough: {}", slept >= NAP && slept < 10 * NAP);
}
