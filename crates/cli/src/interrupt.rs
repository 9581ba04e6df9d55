//! Ctrl-C and SIGTERM: the first stops at the next tile, the second at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// Exit status after Ctrl-C, as shells have it: 128 + SIGINT. After SIGTERM it is the same: what
/// matters is that the work was stopped.
pub const INTERRUPTED: u8 = 130;

/// Whether Ctrl-C was pressed, or the process told to end, since [`Interrupt::watch`].
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Starts to listen; from now on these signals no longer end the process by themselves, so that what was
    /// begun beside a result is removed.
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
                    // Without handlers the default action stands, and a signal simply ends the process.
                    let listeners = (
                        signal(SignalKind::interrupt()),
                        signal(SignalKind::terminate()),
                    );
                    let (Ok(mut ctrl_c), Ok(mut terminate)) = listeners else {
                        return;
                    };
                    let mut next = async || {
                        tokio::select! {
                            _ = ctrl_c.recv() => {}
                            _ = terminate.recv() => {}
                        }
                    };
                    next().await;
                    pressed.0.store(true, Ordering::Relaxed);
                    next().await;
                    std::process::exit(i32::from(INTERRUPTED));
                });
            })?;
        Ok(interrupt)
    }

    pub fn pressed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
