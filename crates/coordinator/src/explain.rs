//! Explain: why a job is not running yet, or how it ended, in one sentence.

use sqlx::PgConnection;
use upres_common::job::view::{Explanation, JobView};

use crate::store::explain::{COUNTED_AHEAD, Wait, wait};
use crate::store::{StoreError, listing};

/// The reason, for a job as it was just read. `of_a_tenant` is the most tile-steps that one tenant may have
/// with the workers.
///
/// # Errors
/// [`StoreError`].
pub async fn explain(
    conn: &mut PgConnection,
    job: &JobView,
    of_a_tenant: Option<i64>,
) -> Result<Explanation, StoreError> {
    let explanation = |reason, sentence: String| Explanation {
        id: job.id,
        state: job.state.clone(),
        reason: String::from(reason),
        sentence,
    };
    if job.state == "running" {
        let worker = job.attempts.last().map_or("a worker", |last| &last.worker);
        let sentence = format!("it is running: attempt {} on {worker}", job.attempt);
        return Ok(explanation("running", sentence));
    }
    if job.is_terminal() {
        return Ok(explanation("ended", ending(job)));
    }
    let Some(wait) = wait(conn, job.id, of_a_tenant).await? else {
        let sentence = "its state is changing right now: ask again".to_owned();
        return Ok(explanation("changing", sentence));
    };
    let pace = listing::pace(conn).await?;
    let (reason, sentence) = sentence(&wait, of_a_tenant, pace);
    Ok(explanation(reason, sentence))
}

/// When a job ended, and what there is to say of it; its state stands beside the sentence.
fn ending(job: &JobView) -> String {
    let when = job
        .finished_at
        .map_or_else(String::new, |at| format!(" at {}", at.to_rfc3339()));
    let what = match (&job.error, &job.result) {
        (Some(error), _) if job.attempt > 0 => {
            format!(", in attempt {}: {}", job.attempt, error.detail)
        }
        (Some(error), _) => format!(": {}", error.detail),
        (None, Some(result)) => format!(": its result is {}", result.uri),
        (None, None) => String::new(),
    };
    format!("it ended{when}{what}")
}

fn sentence(wait: &Wait, of_a_tenant: Option<i64>, pace: Option<f64>) -> (&'static str, String) {
    let class = &wait.class;
    if wait.cancelled {
        return (
            "cancelled",
            "its batch was cancelled, it follows within seconds".to_owned(),
        );
    }
    if !wait.due && wait.attempt > 0 {
        let sentence = format!(
            "attempt {} failed, the next may begin at {}",
            wait.attempt,
            wait.due_at.to_rfc3339()
        );
        return ("backoff", sentence);
    }
    if !wait.due {
        let sentence = format!(
            "it is not to be started before {}",
            wait.due_at.to_rfc3339()
        );
        return ("scheduled", sentence);
    }
    if wait.paused {
        return ("paused", "its batch is paused: resume it".to_owned());
    }
    if wait.listing {
        let sentence = "its batch is atomic, and its items are still being read";
        return ("listing", sentence.to_owned());
    }
    if wait.released {
        let sentence = format!(
            "it was released and waits for a free worker, with {} {class} jobs in all: more workers would help, or see whether any is running",
            wait.released_jobs
        );
        return ("no_worker", sentence);
    }
    if !wait.priced {
        let sentence = "its turn is far enough off that the image's header was not read yet";
        return ("unpriced", sentence.to_owned());
    }
    if let Some(limit) = of_a_tenant
        && wait.ahead == 0
        && wait.out_of_tenant > 0
        && wait.out_of_tenant + wait.cost > limit
    {
        let sentence = format!(
            "{} tile-steps of this tenant are with the workers, and with its {} they would be more than the {limit} that one tenant may have there: it follows as they end",
            wait.out_of_tenant, wait.cost
        );
        return ("tenant_limit", sentence);
    }
    ("turn", turn(wait, pace))
}

fn turn(wait: &Wait, pace: Option<f64>) -> String {
    let many = if wait.ahead >= COUNTED_AHEAD {
        "at least "
    } else {
        ""
    };
    let others = match wait.ahead_of_others {
        0 => String::new(),
        others => format!(", {others} of them not of its batch but as urgent or more so"),
    };
    #[expect(clippy::cast_precision_loss, reason = "an estimate need not be exact")]
    let about = pace
        .filter(|pace| *pace > 0.0)
        .map_or_else(String::new, |pace| {
            let seconds = wait.ahead_cost as f64 / pace;
            format!(", about {seconds:.0} s of work if no other tenant had any")
        });
    format!(
        "its turn has not come: {many}{} jobs ({} tile-steps) of this tenant go before it{others}{about}; {} {} jobs are with the workers' queue already",
        wait.ahead, wait.ahead_cost, wait.released_jobs, wait.class
    )
}
