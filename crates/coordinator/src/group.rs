//! Grouping: while one batch of requests is in the database, the next one gathers, and then goes as
//! one. Under load hundreds of workers cost the database a handful of statements; a lone request
//! waits for nobody.

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::store::{StoreError, within_patience};

/// Requests in one batch.
const MOST: usize = 200;

/// A handle to one kind of request. The task behind it ends with the last handle.
#[derive(Debug)]
pub struct Group<Q, A> {
    requests: mpsc::Sender<Pending<Q, A>>,
}

#[derive(Debug)]
struct Pending<Q, A> {
    request: Q,
    answer: oneshot::Sender<A>,
}

/// The batch that held the request failed, and was logged; nothing of it was done.
#[derive(Debug, thiserror::Error)]
#[error("the database did not do it")]
pub struct NotDone;

impl<Q, A> Clone for Group<Q, A> {
    fn clone(&self) -> Self {
        Self {
            requests: self.requests.clone(),
        }
    }
}

impl<Q: Clone + Send + 'static, A: Send + 'static> Group<Q, A> {
    /// Starts the task. `serve` answers a batch: one answer a request, in order. A batch that the
    /// database refuses is tried again one by one, so that a request it cannot bear spoils no other.
    pub fn start<F, B>(tasks: &TaskTracker, serve: F) -> Self
    where
        F: Fn(Vec<Q>) -> B + Send + 'static,
        B: Future<Output = Result<Vec<A>, StoreError>> + Send + 'static,
    {
        let (requests, mut queue) = mpsc::channel::<Pending<Q, A>>(MOST);
        tasks.spawn(async move {
            let mut batch = Vec::new();
            while queue.recv_many(&mut batch, MOST).await > 0 {
                let (requests, waiting): (Vec<_>, Vec<_>) = batch
                    .drain(..)
                    .map(|pending| (pending.request, pending.answer))
                    .unzip();
                match within_patience(serve(requests.clone())).await {
                    Ok(answers) => {
                        for (answer, waiting) in answers.into_iter().zip(waiting) {
                            // Whoever asked may have hung up.
                            drop(waiting.send(answer));
                        }
                    }
                    Err(error) if waiting.len() > 1 && error.is_refusal() => {
                        log(&error, waiting.len());
                        for (request, waiting) in requests.into_iter().zip(waiting) {
                            match within_patience(serve(vec![request])).await {
                                Ok(mut answers) => drop(answers.pop().map(|a| waiting.send(a))),
                                Err(error) => {
                                    log(&error, 1);
                                    // Away, or silent: the rest need not wait for it one by one.
                                    if !error.is_refusal() {
                                        break;
                                    }
                                }
                            }
                        }
                    }
                    Err(error) => log(&error, waiting.len()),
                }
            }
        });
        Self { requests }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`NotDone`]; asking again is safe.
    pub async fn ask(&self, request: Q) -> Result<A, NotDone> {
        let (answer, answered) = oneshot::channel();
        let pending = Pending { request, answer };
        self.requests.send(pending).await.map_err(|_| NotDone)?;
        answered.await.map_err(|_| NotDone)
    }
}

fn log(error: &StoreError, requests: usize) {
    let error = error as &dyn std::error::Error;
    tracing::warn!(error, requests, "a batch was not done");
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn requests_gather_while_a_batch_is_under_way() {
        let (tasks, door) = (TaskTracker::new(), Arc::new(Semaphore::new(0)));
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let group = {
            let (door, sizes) = (Arc::clone(&door), Arc::clone(&sizes));
            Group::start(&tasks, move |batch: Vec<u32>| {
                sizes.lock().unwrap().push(batch.len());
                let door = Arc::clone(&door);
                async move {
                    door.acquire().await.unwrap().forget();
                    Ok(batch.into_iter().map(|n| n * 2).collect())
                }
            })
        };
        let first = group.ask(1);
        tokio::pin!(first);
        assert!(futures_util::poll!(&mut first).is_pending());
        tokio::task::yield_now().await;
        let rest = futures_util::future::join_all((2..=5).map(|n| group.ask(n)));
        tokio::pin!(rest);
        assert!(futures_util::poll!(&mut rest).is_pending());
        door.add_permits(2);
        assert_eq!(first.await.unwrap(), 2);
        let rest: Vec<_> = rest.await.into_iter().map(Result::unwrap).collect();
        assert_eq!(rest, [4, 6, 8, 10]);
        assert_eq!(*sizes.lock().unwrap(), [1, 4]);
    }

    #[tokio::test]
    async fn of_a_refused_batch_only_the_culprit_is_not_done() {
        let (tasks, door) = (TaskTracker::new(), Arc::new(Semaphore::new(0)));
        let group = {
            let door = Arc::clone(&door);
            Group::start(&tasks, move |batch: Vec<u32>| {
                let door = Arc::clone(&door);
                async move {
                    door.acquire().await.unwrap().forget();
                    match batch.contains(&3) {
                        true => Err(StoreError::Database(refusal())),
                        false => Ok(batch),
                    }
                }
            })
        };
        let first = group.ask(1);
        tokio::pin!(first);
        assert!(futures_util::poll!(&mut first).is_pending());
        tokio::task::yield_now().await;
        let rest = futures_util::future::join_all([2, 3, 4].map(|n| group.ask(n)));
        tokio::pin!(rest);
        assert!(futures_util::poll!(&mut rest).is_pending());
        door.add_permits(5);
        assert_eq!(first.await.unwrap(), 1);
        let done: Vec<_> = rest.await.into_iter().map(Result::ok).collect();
        assert_eq!(done, [Some(2), None, Some(4)]);
    }

    fn refusal() -> sqlx::Error {
        sqlx::Error::Database(Box::new(Refusal))
    }

    /// What the database says when a value is too much for it.
    #[derive(Debug, thiserror::Error)]
    #[error("refused")]
    struct Refusal;

    impl sqlx::error::DatabaseError for Refusal {
        fn message(&self) -> &str {
            "refused"
        }

        fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
            Some("22P05".into())
        }

        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }
    }

    #[tokio::test]
    async fn a_failed_batch_is_an_error_for_each_and_the_next_one_works() {
        let tasks = TaskTracker::new();
        let group = Group::start(&tasks, |batch: Vec<bool>| async move {
            match batch[0] {
                true => Ok(batch),
                false => Err(StoreError::Database(sqlx::Error::PoolTimedOut)),
            }
        });
        assert!(group.ask(false).await.is_err());
        assert!(group.ask(true).await.unwrap());
        drop(group);
        tasks.close();
        tasks.wait().await;
    }
}
