//! Writes a random-weight model folder: `cargo run --example random_model -- tiny 1 OUT`.

use anyhow::{Context, Result};
use invsr::write_random_model;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [size, seed, out] = &arguments[..] else {
        anyhow::bail!("usage: random_model tiny|quarter|full SEED OUT");
    };
    let seed = seed.parse().context("read the seed")?;
    write_random_model(size.parse()?, seed, out.as_ref()).context("write the model")
}
