//! The measurements of `make bench`, `make load` and `make soak`. In `make bench`: our side and another program's in turns, on one machine, in one
//! run, so that the ratio stands although the machine is never quiet. Without the other program our
//! side is measured alone.

mod batch;
mod engine;
mod large;
mod leases;
mod load;
mod peer;
mod polls;
mod queue;
mod seams;
mod soak;
mod stream;
mod table;
mod whole;

use clap::Parser;

#[derive(Debug, Parser)]
enum Command {
    /// Times the stages of a tile in `upres-worker bench` and in the program after `--`.
    Engine(engine::EngineArgs),
    /// Times no-op jobs through the queue and through the program after `--`; under with-services.sh.
    Queue(queue::QueueArgs),
    /// Measures how much the borders between tiles show.
    Seams(seams::SeamArgs),
    /// Times an image of any size through the engine without its networks.
    Stream(stream::StreamArgs),
    /// A picture far larger than memory from file to file, the engine without its networks.
    Large(large::LargeArgs),
    /// A hundred thousand jobs through the queue, and claims beside millions of jobs that have ended;
    /// under with-services.sh.
    Load(load::LoadArgs),
    /// Half a million items of a manifest, deaths meanwhile, and another tenant beside them; under
    /// with-services.sh.
    Batch(batch::BatchArgs),
    /// Pollers of unchanged jobs, beside a bare handler; under with-services.sh.
    Polls(polls::PollArgs),
    /// The bare handler of `polls`.
    #[command(hide = true)]
    Bare(polls::BareArgs),
    /// A mixed load for some time: memory, connections, tables; under with-services.sh.
    Soak(soak::SoakArgs),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Engine(args) => engine::run(&args),
        Command::Queue(args) => queue::run(&args).await,
        Command::Seams(args) => seams::run(&args),
        Command::Stream(args) => stream::run(&args),
        Command::Large(args) => large::run(&args),
        Command::Load(args) => load::run(&args).await,
        Command::Batch(args) => batch::run(&args).await,
        Command::Polls(args) => polls::run(&args).await,
        Command::Bare(args) => polls::bare(&args).await,
        Command::Soak(args) => soak::run(&args).await,
    }
}
