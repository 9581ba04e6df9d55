//! What a job costs is known when it is accepted, in the engine's own count.

use std::io::Cursor;

use image::{ImageFormat, RgbImage};
use invsr::{DeviceSpec, Dtype, InvSr, Options, Schedule, Upscale};
use journey_tests::{World, photo};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use upres_common::broker::Consumer;
use upres_common::job::spec::{Guidance, Timesteps};
use upres_common::job::{UpscaleSpec, tile_steps};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_only_to_be_validated_is_priced_and_not_stored() -> anyhow::Result<()> {
    let world = World::plain("validate_only").await?;
    world.store.put("in/a.png", photo(24, 16)).await?;
    let job = json!({"input": world.store.uri("in/a.png"), "output": world.store.uri("out/a.png"), "upscale": {"steps": 3}});
    let ask = async |query: &str, job: &Value| -> anyhow::Result<(StatusCode, Value)> {
        let asked = world.request(Method::POST, &format!("/v1/jobs{query}"));
        let answer = asked.json(job).send().await?;
        Ok((answer.status(), answer.json().await?))
    };
    let (status, price) = ask("?validate_only=true", &job).await?;
    assert_eq!(
        (status, &price["tile_steps"]),
        (StatusCode::OK, &json!(3)),
        "{price}"
    );
    let listed = world.request(Method::GET, "/v1/jobs").send().await?;
    let listed: Value = listed.json().await?;
    assert_eq!(listed["jobs"], json!([]), "{listed}");
    // What is wrong is told as it would be.
    let missing =
        json!({"input": world.store.uri("in/b.png"), "output": world.store.uri("out/b.png")});
    let (status, problem) = ask("?validate_only=true", &missing).await?;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    // A parameter that nobody knows does not submit in silence.
    for query in ["?validate_only=yes", "?dry_run=true"] {
        let (status, problem) = ask(query, &job).await?;
        assert_eq!(
            status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{query}: {problem}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_cannot_hold_is_refused_by_name() -> anyhow::Result<()> {
    let world = World::plain("unstorable").await?;
    world.store.put("in/a.png", photo(24, 16)).await?;
    let (input, output) = (world.store.uri("in/a.png"), world.store.uri("out/a.png"));
    let late = "-200000-01-01T00:00:00Z";
    let nul = format!("{input}\u{0}");
    let template = world.store.uri("out/{stem}.png");
    let cases = [
        (
            "/v1/jobs",
            json!({"input": input, "output": output, "not_before": late}),
            "/not_before",
        ),
        (
            "/v1/batches",
            json!({"items": [{"input": input}], "output": template, "not_before": late}),
            "/not_before",
        ),
        (
            "/v1/batches",
            json!({"items": [{"input": nul}], "output": template}),
            "",
        ),
    ];
    for (path, body, pointer) in cases {
        let answer = world.request(Method::POST, path).json(&body).send().await?;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        let problem: Value = answer.json().await?;
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    let answer = world
        .request(Method::GET, "/v1/jobs?label.a=%00")
        .send()
        .await?;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    Ok(())
}

#[test]
fn tile_steps_are_counted_as_the_engine_counts_them() -> anyhow::Result<()> {
    let model = journey_tests::story_folder("price-model")?;
    invsr::write_random_model(invsr::Size::Tiny, 7, &model)?;
    let engine = InvSr::load(&model, &DeviceSpec::Cpu, Dtype::F32)?;
    let sides = [1, 16, 47, 48, 64, 80, 127, 128, 129, 192, 193, 641, 3000];
    for (tile, overlap, timesteps, guidance) in [
        (32, None, vec![200], 1.0),
        (48, None, vec![250, 150, 50], 3.5),
        (128, None, vec![237, 61], 1.0),
        (128, Some(64), vec![200], 2.0),
        (128, Some(24), vec![200], 1.0),
    ] {
        let options = Options {
            tile_px: tile,
            overlap_px: overlap,
            guidance,
            schedule: Schedule::new(&timesteps)?,
            ..Options::default()
        };
        let upscale = UpscaleSpec {
            tile,
            overlap,
            guidance: Guidance::new(guidance)?,
            timesteps: Timesteps::new(timesteps)?,
            ..UpscaleSpec::default()
        };
        for width in sides {
            for height in sides {
                assert_eq!(
                    usize::try_from(tile_steps(width, height, &upscale))?,
                    engine.plan(width, height, &options)?.tile_steps,
                    "{width}x{height} px, tiles of {tile} px, {overlap:?} px shared"
                );
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_says_what_it_costs_before_anybody_works_on_it() -> anyhow::Result<()> {
    let world = World::plain("price").await?;
    let mut consumer = Consumer::connect(world.amqp_url(), "price", 1).await?;
    // Noise: as a TIFF or PNG too long for one read, and a TIFF's directory stands at its end.
    let (width, height) = (300, 200);
    let mut seed = 1_u32;
    let picture = RgbImage::from_fn(width, height, |_, _| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        image::Rgb([seed.to_be_bytes()[0], seed.to_be_bytes()[1], 7])
    });
    let upscale = UpscaleSpec::default();
    let expected = i64::from(tile_steps(width, height, &upscale));
    for (name, format) in [
        ("png", ImageFormat::Png),
        ("jpg", ImageFormat::Jpeg),
        ("tif", ImageFormat::Tiff),
        ("webp", ImageFormat::WebP),
    ] {
        let mut file = Cursor::new(Vec::new());
        picture.write_to(&mut file, format)?;
        let mut file = file.into_inner();
        if name == "jpg" {
            file = behind_a_large_profile(&file);
        }
        assert!(file.len() > 64 * 1024, "{name}: {} bytes", file.len());
        let input = format!("in/picture.{name}");
        world.store.put(&input, file).await?;
        let job = json!({
            "input": world.store.uri(&input),
            "output": world.store.uri(&format!("out/picture.{name}")),
        });
        let (status, answer) = world.post_job(&job).await?;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
        assert_eq!(answer["cost"], expected, "{name}");
        let id = answer["id"].as_str().unwrap_or_default();
        assert_eq!(world.job(id).await?, answer, "as it is read back");
        let delivery = consumer.next().await?.expect("a wake-up");
        assert_eq!(delivery.envelope()?.wake_up.cost, expected);
        delivery.ack().await?;
    }
    consumer.close(None).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_image_is_accepted_at_an_estimate_and_left_to_the_worker() -> anyhow::Result<()>
{
    let world = World::plain("no_price").await?;
    world.store.put("in/empty.png", Vec::new()).await?;
    world.store.put("in/text.png", vec![b'x'; 90_000]).await?;
    // A header may claim any size: at most that of the largest image that workers accept is counted.
    let claim = [
        &b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\0\0\0\x7f\0\0\0\x08\x02\0\0\0"[..],
        &[0; 4],
    ];
    world.store.put("in/claim.png", claim.concat()).await?;
    for (name, side) in [("empty", 0), ("text", 300), ("claim", 15_811)] {
        let job = json!({
            "input": world.store.uri(&format!("in/{name}.png")),
            "output": world.store.uri(&format!("out/{name}.png")),
        });
        let (status, answer) = world.post_job(&job).await?;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
        let estimate = tile_steps(side, side, &UpscaleSpec::default());
        assert_eq!(answer["cost"], i64::from(estimate), "{name}");
    }
    Ok(())
}

/// The same JPEG with segments of other programs before its frame, more than one read holds.
fn behind_a_large_profile(file: &[u8]) -> Vec<u8> {
    let segment = [&[0xFF, 0xED, 0xFF, 0xFF], vec![b'p'; 0xFFFD].as_slice()].concat();
    let (start, rest) = file.split_at(2);
    [start, &segment, &segment, rest].concat()
}
