//! A short run of `make chaos`: everything breaks, and yet every job ends once.

use std::time::Duration;

use journey_tests::chaos::{FAULTS, Load, Options, run};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_is_done_twice_while_everything_breaks() -> anyhow::Result<()> {
    let options = Options {
        seed: 1,
        jobs: 80,
        duration: Duration::from_secs(30),
        faults: FAULTS.map(str::to_owned).to_vec(),
        lease: Duration::from_secs(4),
        load: Load::Fake,
        folder: journey_tests::story_folder("chaos")?,
    };
    let report = run(&options).await?;
    assert!(report.jobs == options.jobs && report.is_clean(), "{report}");
    Ok(())
}
