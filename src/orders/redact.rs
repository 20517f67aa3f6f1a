//! Redacts a finished ingest's stored response when customers are erased.

/// Returns the response of an ingest without the order ids in its errors and without the names of skipped entries.
/// Returns an empty object if the response is not valid JSON or still contains any of them.
pub(crate) fn without_order_ids(response: &str) -> String {
    let Ok(mut answer) = serde_json::from_str::<serde_json::Value>(response) else { return "{}".to_owned() };
    if let Some(errors) = answer.get_mut("errors").and_then(serde_json::Value::as_array_mut) {
        for error in errors.iter_mut().filter_map(serde_json::Value::as_object_mut) {
            error.remove("order_id");
        }
    }
    if let Some(skipped) = answer.get_mut("skipped") {
        *skipped = serde_json::Value::Array(Vec::new());
    }
    let text = answer.to_string();
    // Nothing else in a response contains these keys.
    let is_left = text.contains("\"order_id\"") || text.contains("\"skipped\":[{");
    if is_left { "{}".to_owned() } else { text }
}
