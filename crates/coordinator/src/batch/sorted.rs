//! Sorted: what becomes of the items of a piece of a batch's source. Some are jobs, some are done already, and
//! some are refused, each for a reason that stands in the report.

use std::collections::HashMap;

use sqlx::PgConnection;
use upres_common::batch::BatchId;
use upres_common::job::{IfExists, JobId};

use super::items::Mould;
use super::made;
use super::parent::State;
use super::source::Chunk;
use crate::price::estimated_cost;
use crate::store::batches::expansion::{NewItem, RefusedItem};
use crate::store::batches::parents;
use crate::store::{StoreError, submissions};

/// What a piece of the source holds.
pub(super) struct Sorted {
    pub items: Vec<NewItem>,
    pub refused: Vec<RefusedItem>,
    pub unchanged: Vec<parents::Unchanged>,
}

impl Sorted {
    /// Items that are acceptable in themselves, and the others.
    pub fn of(mould: &Mould, chunk: &Chunk) -> Self {
        let (mut items, mut refused) = (Vec::new(), Vec::new());
        for read in &chunk.reads {
            let line = i64::try_from(read.line).unwrap_or(i64::MAX);
            let job = read
                .item
                .clone()
                .and_then(|item| mould.cast(item, read.line));
            match job {
                Ok(job) => items.push(NewItem {
                    id: JobId::fresh(),
                    line,
                    estimate: read
                        .bytes
                        .map(|bytes| i64::from(estimated_cost(bytes, &job.upscale))),
                    job,
                    replaces: None,
                }),
                Err(detail) => refused.push(refusal(line, read.input.clone(), detail)),
            }
        }
        Self {
            items,
            refused,
            unchanged: Vec::new(),
        }
    }

    /// What is unchanged is no job; what is stale is written anew.
    ///
    /// - `states`: of the items, in order.
    pub fn leave_out(&mut self, states: &[State]) {
        for (mut item, state) in std::mem::take(&mut self.items).into_iter().zip(states) {
            match *state {
                State::New => self.items.push(item),
                State::Stale(job_id) => {
                    if item.job.if_exists == IfExists::Fail {
                        item.job.if_exists = IfExists::Overwrite;
                        item.replaces = Some(job_id);
                    }
                    self.items.push(item);
                }
                State::Unchanged(job_id) => self.unchanged.push(parents::Unchanged {
                    line: item.line,
                    input: item.job.input.to_string(),
                    output: item.job.output.to_string(),
                    job_id,
                }),
            }
        }
    }
}

/// Leaves out what was found under `prefix` and is the result of something else under it, or of a report: who
/// names a folder a second time means its pictures, and not what was made of them. Says how many.
pub(super) async fn without_results(
    conn: &mut PgConnection,
    tenant: &str,
    prefix: &str,
    items: Vec<NewItem>,
) -> Result<(Vec<NewItem>, u64), StoreError> {
    let inputs: Vec<_> = items
        .iter()
        .map(|item| item.job.input.to_string())
        .collect();
    let results = made(conn, tenant, prefix, &inputs).await?;
    let before = items.len();
    let items: Vec<_> = items
        .into_iter()
        .zip(&inputs)
        .filter(|(_, input)| !results.contains(*input))
        .map(|(item, _)| item)
        .collect();
    let left_out = before - items.len();
    Ok((items, left_out as u64))
}

/// Writes down what is unchanged, and says how many. Of items that go where an earlier one is, none is left.
pub(super) async fn without_twins(
    conn: &mut PgConnection,
    id: BatchId,
    items: Vec<NewItem>,
    unchanged: Vec<parents::Unchanged>,
    refused: &mut Vec<RefusedItem>,
) -> Result<(Vec<NewItem>, i64), StoreError> {
    let written = parents::insert_unchanged(conn, id, &unchanged).await?;
    for item in unchanged
        .iter()
        .filter(|item| !written.contains(&item.line))
    {
        refused.push(twin(item.line, item.input.clone(), &item.output));
    }
    let outputs: Vec<_> = items
        .iter()
        .map(|item| item.job.output.to_string())
        .collect();
    let taken = parents::left_unchanged(conn, id, &outputs).await?;
    let (twins, items): (Vec<_>, Vec<_>) = items
        .into_iter()
        .partition(|item| taken.contains(&item.job.output.to_string()));
    refused.extend(twins.iter().map(|item| {
        twin(
            item.line,
            item.job.input.to_string(),
            &item.job.output.to_string(),
        )
    }));
    Ok((items, i64::try_from(written.len()).unwrap_or(i64::MAX)))
}

/// An item that goes where an earlier one does.
pub(super) fn twin(line: i64, input: String, output: &str) -> RefusedItem {
    let detail = format!("output: an earlier item of this batch goes to {output}, too");
    refusal(line, input, detail)
}

fn refusal(line: i64, input: String, detail: String) -> RefusedItem {
    RefusedItem {
        line,
        input,
        detail,
    }
}

/// Refuses inputs that are about to change and outputs that are masters, as for single jobs; also outputs
/// that are inputs of this very piece.
pub(super) async fn without_masters(
    conn: &mut PgConnection,
    items: Vec<NewItem>,
    refused: &mut Vec<RefusedItem>,
) -> Result<Vec<NewItem>, StoreError> {
    let inputs: Vec<_> = items
        .iter()
        .map(|item| item.job.input.to_string())
        .collect();
    let outputs: Vec<_> = items
        .iter()
        .map(|item| item.job.output.to_string())
        .collect();
    let being_published = submissions::being_published(conn, &inputs).await?;
    let masters = submissions::inputs_among(conn, &outputs).await?;
    let own: HashMap<&String, i64> = inputs
        .iter()
        .zip(&items)
        .map(|(input, item)| (input, item.line))
        .collect();
    let refusals = inputs.iter().zip(&outputs).map(|(input, output)| {
        if being_published.contains(input) {
            Some("input: a job is writing this object right now".to_owned())
        } else if masters.contains(output) {
            Some(format!(
                "output: {output} is the input of a job: a master is never overwritten"
            ))
        } else {
            own.get(output).map(|line| {
                format!(
                    "output: {output} is the input of line {line}: a master is never overwritten"
                )
            })
        }
    });
    let refusals: Vec<_> = refusals.collect();
    let mut kept = Vec::with_capacity(items.len());
    for (item, refusal_detail) in items.into_iter().zip(refusals) {
        match refusal_detail {
            None => kept.push(item),
            Some(detail) => refused.push(refusal(item.line, item.job.input.to_string(), detail)),
        }
    }
    Ok(kept)
}
