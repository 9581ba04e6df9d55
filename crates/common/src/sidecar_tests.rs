use serde_json::{Value, json};

use super::*;

fn sidecar() -> Sidecar {
    let file = |uri: &str| FileRecord {
        uri: uri.to_owned(),
        format: "tiff".to_owned(),
        sha256: Some("0".repeat(64)),
        bytes: 7,
        width: 1,
        height: 2,
    };
    let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    Sidecar {
        layout: LAYOUT,
        input: file("s3://masters/1.tif"),
        output: file("s3://derivatives/1.tif"),
        job: Some(JobRecord {
            id: JobId::fresh(),
            attempt: 1,
        }),
        settings: Settings {
            timesteps: Timesteps::default(),
            seed: u64::MAX,
            guidance: 1.5,
            color_fix: ColorFix::Wavelet,
            scale: 4,
        },
        tiles: TilePlan {
            side_px: 128,
            overlap_px: 32,
            tiles: 1,
            tile_steps: 1,
        },
        pages: vec![PageRecord {
            page: 2,
            width: 1,
            height: 2,
            tiles: 1,
        }],
        engine: EngineRecord {
            software: "upres".to_owned(),
            model: "tiny".to_owned(),
            model_sha256: Some("0".repeat(64)),
            device: "cpu".to_owned(),
            dtype: "f32".to_owned(),
        },
        began_at: at,
        finished_at: at,
        timings_ms: BTreeMap::from([("fetch".to_owned(), 3)]),
        warnings: vec!["a warning".to_owned()],
    }
}

/// What of `value` the schema does not allow: the words that our schema uses, and no others.
fn problems(schema: &Value, definitions: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return problems(&definitions[name], definitions, value, at, found);
    }
    let kind = match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        _ => "other",
    };
    if schema["type"] != kind {
        found.push(format!("{at} is {kind}, not {}", schema["type"]));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().unwrap()).is_none() {
            found.push(format!("{at} lacks {name}"));
        }
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        match (
            schema["properties"].get(name),
            schema.get("additionalProperties"),
        ) {
            (Some(schema), _) => {
                problems(schema, definitions, inner, &format!("{at}/{name}"), found)
            }
            (None, Some(schema @ Value::Object(_))) => {
                problems(schema, definitions, inner, &format!("{at}/{name}"), found);
            }
            _ => found.push(format!("{at} has {name}")),
        }
    }
    for (index, inner) in value.as_array().into_iter().flatten().enumerate() {
        problems(
            &schema["items"],
            definitions,
            inner,
            &format!("{at}/{index}"),
            found,
        );
    }
}

fn against_schema(value: &Value) -> Vec<String> {
    let schema: Value =
        serde_json::from_str(include_str!("../../../docs/sidecar.schema.json")).unwrap();
    let mut found = Vec::new();
    problems(&schema, &schema["$defs"], value, "", &mut found);
    found
}

#[test]
fn a_record_is_as_the_schema_describes_it_and_reads_back() {
    let record = sidecar();
    let value = serde_json::from_slice(&record.to_bytes()).unwrap();
    assert_eq!(against_schema(&value), Vec::<String>::new());
    assert_eq!(serde_json::from_value::<Sidecar>(value).unwrap(), record);
}

#[test]
fn a_record_without_what_may_be_missing_is_as_the_schema_describes_it() {
    let mut record = sidecar();
    record.job = None;
    record.output.sha256 = None;
    record.engine.model_sha256 = None;
    let value = serde_json::to_value(&record).unwrap();
    assert_eq!(against_schema(&value), Vec::<String>::new());
}

#[test]
fn the_schema_refuses_what_is_missing_and_what_is_unknown() {
    let mut value = serde_json::to_value(sidecar()).unwrap();
    value["input"]["bytes"] = json!("seven");
    value["tiles"]["more"] = json!(1);
    value.as_object_mut().unwrap().remove("engine");
    assert_eq!(against_schema(&value).len(), 3);
}
