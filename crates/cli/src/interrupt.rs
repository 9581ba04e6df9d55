//! Ctrl-C: the first stops at the next tile, the second at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit status after Ctrl-C, as shells have it: 128 + SIGINT.
pub const INTERRUPTED: u8 = 130;

/// Whether Ctrl-C was pressed since [`Interrupt::watch`].
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Starts to listen; from now on Ctrl-C no longer ends the process by itself.
    ///
    /// # Errors
    /// The operating system gives no thread or no signal handler.
    pub fn watch() -> io::Result<Self> {
        let interrupt = Self::default();
        let pressed = interrupt.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        std::thread::Builder::new()
            .name("ctrl-c".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    // Without a handler the default action stands, and Ctrl-C simply ends the process.
                    if tokio::signal::ctrl_c().await.is_err() {
                        return;
                    }
                    pressed.0.store(true, Ordering::Relaxed);
                    if tokio::signal::ctrl_c().await.is_ok() {
                        std::process::exit(i32::from(INTERRUPTED));
                    }
                });
            })?;
        Ok(interrupt)
    }

    pub fn pressed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
