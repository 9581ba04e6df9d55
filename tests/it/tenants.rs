//! Tenants do not see each other; keys end, are rotated, and hand out no more than they may.

use anyhow::Context;
use journey_tests::{DEADLINE, World, photo, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// What the first tenant has: an id for each kind of thing, and all that must not be seen.
struct Belongings {
    job: String,
    ended_job: String,
    key: String,
    secret: String,
    delivery: String,
    batch: String,
}

impl Belongings {
    async fn make(world: &mut World) -> anyhow::Result<Self> {
        let post = async |path: &str, body: &Value| -> anyhow::Result<Value> {
            let answer = world.request(Method::POST, path).json(body).send().await?;
            Ok(answer.error_for_status()?.json().await?)
        };
        let id = |made: &Value| made["id"].as_str().map(str::to_owned).context("an id");
        let key = id(&post("/v1/keys", &json!({"scopes": ["read"]})).await?)?;
        let secret = id(&post("/v1/webhooks/secrets", &json!({})).await?)?;
        let ended_job = world.submit_photo("ended").await?;
        let mut database = world.database().await?;
        sqlx::query("insert into job_webhooks values ($1::uuid, 'https://example.org/')")
            .bind(&ended_job)
            .execute(&mut database)
            .await?;
        post(&format!("/v1/jobs/{ended_job}/cancel"), &json!({})).await?;
        let delivery = sqlx::query_scalar("select delivery_id from webhook_deliveries");
        let delivery = delivery.fetch_one(&mut database).await?;
        let item = json!({"input": world.store.uri("in/ended.png"), "output": world.store.uri("out/b.png")});
        let batch = id(&post("/v1/batches", &json!({"items": [item]})).await?)?;
        // Last, so that nothing has changed it when the stranger is done.
        let job = world.submit_photo("waiting").await?;
        Ok(Self {
            job,
            ended_job,
            key,
            secret,
            delivery,
            batch,
        })
    }

    /// What stands for `{id}` in such a path.
    fn for_path(&self, path: &str) -> anyhow::Result<Vec<&str>> {
        let one_of = |prefix: &str| path.starts_with(prefix);
        let ids = if one_of("/v1/jobs/") {
            vec![self.job.as_str(), &self.ended_job]
        } else if one_of("/v1/keys/") {
            vec![self.key.as_str()]
        } else if one_of("/v1/webhooks/secrets/") {
            vec![self.secret.as_str()]
        } else if one_of("/v1/webhooks/deliveries/") {
            vec![self.delivery.as_str()]
        } else if one_of("/v1/batches/") {
            vec![self.batch.as_str()]
        } else {
            anyhow::bail!("{path} is new: say here what it is asked for")
        };
        Ok(ids)
    }

    fn all(&self) -> [&str; 6] {
        [
            &self.job,
            &self.ended_job,
            &self.key,
            &self.secret,
            &self.delivery,
            &self.batch,
        ]
    }
}

/// A body that the call understands, naming what belongs to the first tenant where it can.
fn body(path: &str, theirs: &Belongings) -> Value {
    match path {
        "/v1/jobs/lookup" => json!({"ids": [theirs.job, theirs.ended_job]}),
        "/v1/keys" => json!({"scopes": ["read"]}),
        "/v1/jobs" => {
            json!({"input": "s3://nowhere-at-all/a.png", "output": "s3://nowhere-at-all/b.png"})
        }
        path if path.starts_with("/v1/leases/claim") => {
            json!({"worker_id": "stranger", "job_ids": [theirs.job]})
        }
        _ => json!({}),
    }
}

/// Makes one call with the stranger's key and looks that it finds nothing.
async fn ask_as_stranger(
    world: &World,
    theirs: &Belongings,
    stranger: &str,
    (method, path, id): (&str, &str, &str),
) -> anyhow::Result<()> {
    let method: Method = method.to_uppercase().parse()?;
    let what = format!("{method} {}", path.replace("{id}", id));
    let url = format!("{}{}", world.url(0), path.replace("{id}", id));
    let request = reqwest::Client::new().request(method.clone(), url);
    let mut request = request.bearer_auth(stranger);
    if [Method::POST, Method::PATCH].contains(&method) {
        request = request.json(&body(path, theirs));
    }
    let answer = request.send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    assert!(!status.is_server_error(), "{what}: {status} {text}");
    if path.starts_with("/v1/leases") {
        assert!(status.is_client_error(), "{what}: {status} {text}");
    } else if path.contains('{') {
        assert_eq!(status, StatusCode::NOT_FOUND, "{what}: {text}");
    }
    // Ids that the request itself named may come back as missing.
    for id in theirs.all().iter().filter(|_| path != "/v1/jobs/lookup") {
        assert!(!text.contains(*id), "{what} shows {id}: {text}");
    }
    let address = world.store.uri("in/");
    assert!(!text.contains(&address), "{what} shows it: {text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_shows_or_touches_what_another_tenant_has() -> anyhow::Result<()> {
    let mut world = World::plain("tenants").await?;
    let theirs = Belongings::make(&mut world).await?;
    let before = (
        world.job(&theirs.job).await?,
        world.job(&theirs.ended_job).await?,
    );
    let stranger = world.key_of("stranger")?;
    let api = world.request(Method::GET, "/openapi.json").send().await?;
    let api: Value = api.json().await?;
    let mut walked = 0;
    for (path, calls) in api["paths"].as_object().into_iter().flatten() {
        if !path.starts_with("/v1/") {
            continue;
        }
        let named = path.contains('{');
        let ids = if named {
            theirs.for_path(path)?
        } else {
            vec![""]
        };
        for method in calls.as_object().into_iter().flat_map(|calls| calls.keys()) {
            for id in &ids {
                ask_as_stranger(&world, &theirs, &stranger, (method, path, id)).await?;
                walked += 1;
            }
        }
    }
    assert!(walked > 20, "only {walked} calls were walked");
    let after = (
        world.job(&theirs.job).await?,
        world.job(&theirs.ended_job).await?,
    );
    assert_eq!(before, after);
    for (path, id) in [
        ("/v1/keys", &theirs.key),
        ("/v1/webhooks/secrets", &theirs.secret),
    ] {
        let list = world
            .request(Method::GET, path)
            .send()
            .await?
            .text()
            .await?;
        assert!(list.contains(id.as_str()), "{path} has lost {id}: {list}");
    }
    Ok(())
}

async fn post_as(
    world: &World,
    key: &str,
    path: &str,
    body: &Value,
) -> anyhow::Result<(StatusCode, Value)> {
    let url = format!("{}{path}", world.url(0));
    let request = reqwest::Client::new().post(url).bearer_auth(key);
    let answer = request.json(body).send().await?;
    Ok((answer.status(), answer.json().await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_hands_out_no_more_than_it_may() -> anyhow::Result<()> {
    let world = World::plain("grants").await?;
    let post = async |key: &str, path: &str, body: Value| post_as(&world, key, path, &body).await;
    let admin = json!({
        "scopes": ["admin", "read", "submit"], "read_prefixes": ["s3://masters/a/"], "write_prefixes": ["s3://out/"],
    });
    let (_, made) = post(&world.key, "/v1/keys", admin).await?;
    let key = made["key"].as_str().unwrap_or_default();
    for (more, allowed) in [
        (
            json!({"scopes": ["read"], "read_prefixes": ["s3://masters/a/b/"]}),
            true,
        ),
        (json!({"scopes": ["worker"]}), false),
        (json!({"scopes": ["read"], "read_prefixes": ["*"]}), false),
        (
            json!({"scopes": ["read"], "read_prefixes": ["s3://masters/"]}),
            false,
        ),
        (
            json!({"scopes": ["submit"], "write_prefixes": ["s3://masters/a/"]}),
            false,
        ),
    ] {
        let expected = if allowed {
            StatusCode::CREATED
        } else {
            StatusCode::FORBIDDEN
        };
        let (status, answer) = post(key, "/v1/keys", more.clone()).await?;
        assert_eq!(status, expected, "{more}: {answer}");
    }
    // Nor does rotating a mightier one bring it into its hands.
    let mightier = json!({"scopes": ["worker"]});
    let (_, mightier) = post(&world.key, "/v1/keys", mightier).await?;
    let rotate = format!(
        "/v1/keys/{}/rotate",
        mightier["id"].as_str().unwrap_or_default()
    );
    assert_eq!(
        post(key, &rotate, json!({})).await?.0,
        StatusCode::FORBIDDEN
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_an_end_ends() -> anyhow::Result<()> {
    let world = World::plain("key_ends").await?;
    let request = json!({"scopes": ["read"], "expires_in_secs": 1});
    let made = world.request(Method::POST, "/v1/keys").json(&request);
    let made: Value = made.send().await?.error_for_status()?.json().await?;
    let client = reqwest::Client::new();
    until("the key is over", DEADLINE, async || {
        let jobs = client.get(format!("{}/v1/jobs", world.url(0)));
        let jobs = jobs.bearer_auth(made["key"].as_str().unwrap_or_default());
        Ok(jobs.send().await?.status() == StatusCode::UNAUTHORIZED)
    })
    .await
}

#[expect(
    clippy::too_many_lines,
    reason = "one story, told from beginning to end"
)]
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_and_all_of_it_is_noted() -> anyhow::Result<()> {
    let world = World::plain("rotation").await?;
    let client = reqwest::Client::new();
    let list = async |key: &str| -> anyhow::Result<StatusCode> {
        let jobs = client.get(format!("{}/v1/jobs", world.url(0)));
        Ok(jobs.bearer_auth(key).send().await?.status())
    };
    let post = async |path: &str, body: Value| -> anyhow::Result<(String, String)> {
        let answer = world.request(Method::POST, path).json(&body).send().await?;
        let made: Value = answer.error_for_status()?.json().await?;
        let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
        Ok((text("id"), text("key")))
    };
    let is_over = async |key: &str| {
        until("the key is over", DEADLINE, async || {
            Ok(list(key).await? == StatusCode::UNAUTHORIZED)
        })
        .await
    };
    let (old_id, old) = post("/v1/keys", json!({"scopes": ["read"], "label": "archive"})).await?;
    let rotate = format!("/v1/keys/{old_id}/rotate");
    let (new_id, new) = post(&rotate, json!({"overlap_secs": 600})).await?;
    assert_eq!(
        (list(&old).await?, list(&new).await?),
        (StatusCode::OK, StatusCode::OK)
    );
    let (newest_id, newest) = post(
        &format!("/v1/keys/{new_id}/rotate"),
        json!({"overlap_secs": 0}),
    )
    .await?;
    is_over(&new).await?;
    assert_eq!(list(&newest).await?, StatusCode::OK);
    let kept = world.request(Method::GET, "/v1/keys").send().await?;
    let kept: Value = kept.json().await?;
    let labels: Vec<_> = kept
        .as_array()
        .into_iter()
        .flatten()
        .filter(|key| key["label"] == "archive")
        .map(|key| (key["id"].clone(), key["expires_at"].is_null()))
        .collect();
    assert_eq!(labels, [(json!(old_id), false), (json!(newest_id), true)]);

    let revoke = world.request(Method::DELETE, &format!("/v1/keys/{old_id}"));
    assert_eq!(revoke.send().await?.status(), StatusCode::NO_CONTENT);
    let log = world.request(Method::GET, "/v1/audit").send().await?;
    let log: Value = log.json().await?;
    let acts: Vec<_> = log["acts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|act| {
            (
                act["act"].as_str().unwrap_or_default(),
                act["subject"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    let expected = [
        ("key.revoked", &old_id),
        ("key.created", &newest_id),
        ("key.rotated", &new_id),
        ("key.created", &new_id),
        ("key.rotated", &old_id),
        ("key.created", &old_id),
    ];
    assert_eq!(acts, expected.map(|(act, id)| (act, id.as_str())));
    let own = world.key.split('_').nth(1).unwrap_or_default();
    assert!(
        log["acts"]
            .as_array()
            .is_some_and(|acts| acts.iter().all(|act| act["key"] == own))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_tenant_uploads_another_cannot_submit() -> anyhow::Result<()> {
    let world = World::plain("tenant_uploads").await?;
    let post = async |key: &str, path: &str, body: Value| post_as(&world, key, path, &body).await;
    // As an operator would: each tenant's key reaches its own folders.
    let narrow = async |tenant: &str| -> anyhow::Result<String> {
        let wide = world.key_of(tenant)?;
        let folder = |kind: &str| world.store.uri(&format!("{kind}/{tenant}/"));
        let rights = json!({
            "scopes": ["submit", "read"], "read_prefixes": [folder("uploads")],
            "write_prefixes": [folder("results")],
        });
        let (_, made) = post(&wide, "/v1/keys", rights).await?;
        made["key"].as_str().map(str::to_owned).context("a key")
    };
    let (ours, theirs) = (narrow("ours").await?, narrow("theirs").await?);
    let name = json!({"file_name": "a.png"});
    let (status, link) = post(&theirs, "/v1/uploads", name.clone()).await?;
    assert_eq!(status, StatusCode::CREATED, "{link}");
    let url = link["url"].as_str().context("a link")?;
    let put = reqwest::Client::new().put(url).body(photo(24, 16));
    let put = put.send().await?;
    put.error_for_status()?;
    let (_, own) = post(&ours, "/v1/uploads", name).await?;
    let job = |input: &Value, output: &Value| json!({"input": input, "output": output});
    for (key, output, expected) in [
        (&ours, &own["output"], StatusCode::FORBIDDEN),
        (&theirs, &own["output"], StatusCode::FORBIDDEN),
        (&theirs, &link["output"], StatusCode::ACCEPTED),
    ] {
        let (status, answer) = post(key, "/v1/jobs", job(&link["input"], output)).await?;
        assert_eq!(status, expected, "{answer}");
    }
    let everybodys = json!({"prefix": world.store.uri("uploads/"), "output": world.store.uri("results/ours/{line}")});
    let (status, answer) = post(&ours, "/v1/batches", everybodys).await?;
    assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
    Ok(())
}
