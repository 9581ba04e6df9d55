//! Flags for what is accepted of an input.

use imaging::Limits;

/// How large an input may be.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct LimitArgs {
    /// Largest input picture, in pixels of a page
    #[arg(long, value_name = "PIXELS", default_value_t = Limits::DEFAULT.max_pixels)]
    max_pixels: u64,
    /// Largest input file, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = Limits::DEFAULT.max_bytes)]
    max_input_bytes: u64,
}

impl From<LimitArgs> for Limits {
    fn from(args: LimitArgs) -> Self {
        Self {
            max_pixels: args.max_pixels,
            max_bytes: args.max_input_bytes,
            ..Self::DEFAULT
        }
    }
}
