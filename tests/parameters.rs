//! One rule for the query parameters of every route: unknown, empty and repeated ones are refused by their names. The
//! OpenAPI document says which routes there are, so a new one cannot be left out.

use crate::support::{Answer, Client, Folder, Server};
use serde_json::Value;

/// Returns a path in which every parameter has some value.
fn path(template: &str) -> String {
    let value = |part: &str| if part.starts_with('{') { "x".to_owned() } else { part.to_owned() };
    template.split('/').map(value).collect::<Vec<_>>().join("/")
}

/// A request of the document, on one of the lanes.
struct Asked<'s> {
    server: &'s Server,
    method: String,
    path: String,
    is_on_executor: bool,
}

impl Asked<'_> {
    #[track_caller]
    fn answer(&self, query: &str) -> Answer {
        let mut client = self.server.client();
        if self.is_on_executor {
            assert_eq!(client.get("/docs").expect("an answer").status, 200);
        }
        let Asked { method, path, .. } = self;
        let head = format!("{method} {path}?{query} HTTP/1.1\r\nHost: test\r\nTus-Resumable: 1.0.0\r\n");
        client.write(format!("{head}Content-Length: 0\r\n\r\n").as_bytes()).expect("the server takes it");
        if method == "HEAD" { client.answer_head() } else { client.answer() }.expect("the server answers")
    }

    /// Checks that the query is refused, and that the error has this name and code. Returns the error's detail.
    #[track_caller]
    fn refused(&self, query: &str, name: &str, code: &str) -> String {
        let answer = self.answer(query);
        let Asked { method, path, is_on_executor, .. } = self;
        let what = format!("{method} {path}?{query}, on the executor: {is_on_executor}");
        assert_eq!(answer.status, 400, "{what}: {}", String::from_utf8_lossy(&answer.body));
        if method == "HEAD" {
            return String::new();
        }
        let said = answer.json();
        assert_eq!(said["type"], "/docs/problems/bad-parameter", "{what}: {said}");
        let errors = said["errors"].as_array().expect("the errors are listed");
        let error = errors.iter().find(|error| error["parameter"] == name && error["code"] == code);
        error.unwrap_or_else(|| panic!("{what}: {said}"))["detail"].as_str().expect("a detail").to_owned()
    }
}

#[test]
fn every_route_refuses_unknown_empty_and_repeated_parameters_by_their_names() {
    let folder = Folder::new();
    let server = folder.serve(&[]);
    let document = server.get("/openapi.json").json();
    let (mut operations, mut named) = (0, 0);
    for (template, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            for is_on_executor in [false, true] {
                let (method, path) = (method.to_uppercase(), path(template));
                let asked = Asked { server: &server, method, path, is_on_executor };
                if asked.method == "OPTIONS" {
                    // A preflight that fails hides its reason from the page.
                    assert_eq!(asked.answer("no_such_parameter=1").status, 204, "{template}");
                    continue;
                }
                operations += 1;
                asked.refused("no_such_parameter=1", "no_such_parameter", "unknown_parameter");
                let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
                for parameter in parameters.iter().filter(|parameter| parameter["in"] == "query") {
                    let name = parameter["name"].as_str().expect("a name");
                    asked.refused(&format!("{name}="), name, "empty_value");
                    asked.refused(name, name, "empty_value");
                    asked.refused(&format!("{name}=1&{name}=1"), name, "repeated");
                    let misspelt = format!("{name}x");
                    let detail = asked.refused(&format!("{misspelt}=1"), &misspelt, "unknown_parameter");
                    let is_led = name.len() < 2 || detail.contains(&format!("did you mean {name}?"));
                    assert!(is_led || asked.method == "HEAD", "{template} {name}: {detail}");
                    named += 1;
                }
            }
        }
    }
    assert!(operations >= 90 && named >= 180, "{operations} operations, {named} parameters");
    // Nothing was stored.
    assert_eq!(server.wait_until_stored()["total_received"], 0);
    server.stop();
}

#[test]
fn the_page_for_prometheus_is_not_mistaken_for_the_counts_of_a_tenant() {
    let folder = Folder::new();
    let server = folder.serve(&[]);
    let asked = Asked {
        server: &server,
        method: "GET".to_owned(),
        path: "/metrics".to_owned(),
        is_on_executor: true,
    };
    for query in ["", "&"] {
        assert_eq!(asked.answer(query).status, 200, "{query}");
    }
    assert_eq!(asked.answer("tenant_id=acme&bucket_size=day").status, 200);
    asked.refused("bucket_size=day", "tenant_id", "missing_parameter");
    server.stop();
}

#[test]
fn the_operators_port_refuses_unknown_and_empty_parameters_by_their_names() {
    let folder = Folder::new();
    let server = folder.serve(&["--ops-listen", "127.0.0.1:0"]);
    let address = server.ops.expect("the operators' port is open");
    let detail = |target: &str| {
        let answer = Client::connect(address).expect("a connection").get(target).expect("an answer");
        assert_eq!(answer.status, 400, "{target}: {}", String::from_utf8_lossy(&answer.body));
        let said: Value = answer.json();
        assert_eq!(said["type"], "/docs/problems/bad-parameter", "{target}");
        said["detail"].as_str().expect("a detail").to_owned()
    };
    for path in ["/metrics", "/health", "/livez", "/ready", "/readyz", "/debug/flamegraph"] {
        let answer = detail(&format!("{path}?no_such_parameter=1"));
        assert!(answer.contains("no_such_parameter"), "{path}: {answer}");
    }
    assert!(detail("/metrics?tenant_id=acme").contains("tenant_id"));
    for name in ["seconds", "hz", "format"] {
        assert!(detail(&format!("/debug/flamegraph?{name}=")).contains(&format!("{name} has no value")));
        let misspelt = detail(&format!("/debug/flamegraph?{name}x=1"));
        assert!(misspelt.contains(&format!("did you mean {name}?")), "{misspelt}");
    }
    assert_eq!(
        Client::connect(address).expect("a connection").get("/health?").expect("an answer").status,
        200
    );
    server.stop();
}
