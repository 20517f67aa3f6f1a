//! Pages for people, all from the binary: Swagger UI with its assets, and one page for every problem.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use super::Asked;
use super::problem::Problem;
use crate::http::Answer;

/// A page with status 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub content_type: &'static str,
    pub body: Cow<'static, [u8]>,
}

/// Returns the page at the requested path, or 404 if there is none.
#[must_use]
pub fn answer(asked: &Asked<'_>) -> Answer {
    match page(asked.path) {
        Some(page) => Answer::new(200, page.content_type, page.body),
        None => asked.not_found(Problem::NotFound, NO_PAGE),
    }
}

pub const NO_PAGE: &str = "no page has this path";

/// Returns the page at a path under `/docs`, or `None` if there is none. `path` is the request's path without its
/// query. Assets borrow from the binary; other pages are rendered each time.
#[must_use]
pub fn page(path: &str) -> Option<Page> {
    let below = path.strip_prefix("/docs")?;
    match below {
        "" | "/" | "/index.html" => swagger_ui_index(),
        "/problems" | "/problems/" => Some(html(problems_index())),
        _ => match below.strip_prefix("/problems/") {
            Some(slug) => problem_page(slug).map(html),
            None => swagger_ui(below.strip_prefix('/')?),
        },
    }
}

/// Returns the index of Swagger UI. It has relative links to its assets, which `/docs` without a slash would resolve
/// against the root.
fn swagger_ui_index() -> Option<Page> {
    let page = swagger_ui("index.html")?;
    let index = String::from_utf8_lossy(&page.body)
        .replace("=\"./", "=\"/docs/")
        .replace("href=\"index.css\"", "href=\"/docs/index.css\"")
        .replace("<title>Swagger UI</title>", "<title>firehose API</title>")
        .replace("/docs/favicon-32x32.png", "/favicon.ico")
        .replace("/docs/favicon-16x16.png", "/favicon.ico");
    Some(html(index))
}

fn swagger_ui(file: &str) -> Option<Page> {
    // The library treats these two as the index.
    if matches!(file, "" | "/") {
        return None;
    }
    // Swagger UI's own validator badge would contact another server.
    let config = utoipa_swagger_ui::Config::from("/openapi.json")
        .deep_linking(true)
        .display_request_duration(true)
        .validator_url("none");
    let file_found = utoipa_swagger_ui::serve(file, Arc::new(config)).ok()??;
    Some(Page { content_type: content_type(file), body: file_found.bytes })
}

fn content_type(file: &str) -> &'static str {
    match file.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "png" => "image/png",
        "json" | "map" => "application/json",
        _ => "application/octet-stream",
    }
}

fn html(text: String) -> Page {
    Page { content_type: content_type(".html"), body: Cow::Owned(text.into_bytes()) }
}

fn problems_index() -> String {
    let mut rows = String::new();
    for problem in Problem::ALL {
        let (status, slug, title) = (problem.status(), problem.slug(), problem.title());
        let _ = writeln!(
            rows,
            "<tr><td>{status}</td><td><a href=\"/docs/problems/{slug}\">{slug}</a></td><td>{title}</td></tr>"
        );
    }
    layout(
        "Problems",
        &format!(
            "<p>Every error response is an <code>application/problem+json</code> document (RFC 9457) whose \
             <code>type</code> is one of these.</p>\n<table>\n{rows}</table>"
        ),
    )
}

fn problem_page(slug: &str) -> Option<String> {
    let problem = Problem::ALL.iter().find(|problem| problem.slug() == slug)?;
    let retry = if problem.retryable() {
        "Yes, later: the same request may succeed. Wait as long as <code>Retry-After</code> says. Without \
         that header, wait a little longer before each retry."
    } else {
        "No. The same request would fail again."
    };
    Some(layout(
        problem.title(),
        &format!(
            "<p><code>{slug}</code>, HTTP status \
             {status}</p>\n<p>{explanation}</p>\n<h2>Retry?</h2>\n<p>{retry}</p>\n<p><a \
             href=\"/docs/problems/\">All problems</a></p>",
            status = problem.status(),
            explanation = problem.explanation(),
        ),
    ))
}

/// Renders a page. All inserted text comes from this program and contains no `<`, `>` or `&`.
fn layout(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n\
         :root {{ color-scheme: light dark; }}\n\
         body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; }}\n\
         td {{ padding: .2rem 1rem .2rem 0; vertical-align: top; }}\n\
         </style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str) -> String {
        String::from_utf8(page(path).unwrap_or_else(|| panic!("no page at {path}")).body.into_owned())
            .unwrap()
    }

    /// Returns the values of `src` and `href` in a page.
    fn links(page: &str) -> Vec<String> {
        let mut links = Vec::new();
        for attribute in ["src=\"", "href=\""] {
            links
                .extend(page.split(attribute).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()));
        }
        links
    }

    #[test]
    fn swagger_ui_and_all_it_loads_come_from_the_binary() {
        for path in ["/docs", "/docs/", "/docs/index.html"] {
            let links = links(&text(path));
            assert!(links.len() >= 6, "{links:?}");
            // The icon belongs to all pages, and `tests/dashboard.rs` requests it.
            assert_eq!(links.iter().filter(|link| *link == "/favicon.ico").count(), 2, "{links:?}");
            for link in links.iter().filter(|link| *link != "/favicon.ico") {
                assert!(!page(link).unwrap().body.is_empty(), "{link}");
            }
        }
        assert_eq!(page("/docs/swagger-ui.css").unwrap().content_type, "text/css; charset=utf-8");
        let initializer = text("/docs/swagger-initializer.js");
        assert!(initializer.contains("\"/openapi.json\"") && !initializer.contains("{{config}}"));
        assert!(initializer.contains("\"validatorUrl\": \"none\"") && !initializer.contains("http"));
    }

    #[test]
    fn every_problem_has_a_page_and_is_in_the_index() {
        let index = links(&text("/docs/problems/"));
        for problem in Problem::ALL {
            let path = format!("/docs/problems/{}", problem.slug());
            assert!(index.contains(&path));
            let page = text(&path);
            assert!(page.contains(problem.explanation()) && page.contains(&problem.status().to_string()));
            assert!(!page.contains("http://") && !page.contains("https://"));
            for text in [problem.title(), problem.explanation()] {
                assert!(!text.contains(['<', '>', '&']), "{text}");
            }
        }
    }

    #[test]
    fn there_is_no_page_where_there_is_none() {
        for path in
            ["", "/", "/doc", "/docsx", "/docs/x", "/docs/../Cargo.toml", "/docs//", "/docs/problems/x"]
        {
            assert_eq!(page(path), None, "{path}");
        }
    }
}
