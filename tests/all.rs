//! Tests of the real server, linked into one program because each program links the whole server.
//!
//! `cargo test --test all prices` runs the tests of one file. A test file is a program of its own if it measures
//! memory, descriptors or responses under load, mounts a disk that loses writes, or drives a browser. The manifest
//! lists these files.

mod support;

mod any_sqlite;
mod changes;
mod checkpoints;
mod commit_page;
mod dataset;
mod dataset_posted;
mod dataset_stored;
mod documented;
mod duplicates;
mod durability;
mod endpoints;
mod event_queries;
mod exactly_once;
mod exports;
mod house_words;
mod http_edges;
mod isolation;
mod keys;
mod load_programs;
mod old_folders;
mod old_sketches;
mod one_vs_many;
mod openapi;
mod operating;
mod orders;
mod orders_encodings;
mod orders_once;
mod orders_outage;
mod orders_refused;
mod orders_search;
mod orders_status;
mod outage;
mod parameters;
mod people;
mod people_access;
mod people_many;
mod people_shipped;
mod prices;
mod prices_appended;
mod product_sums;
mod products;
mod profiles;
mod queries;
mod questions;
mod retention;
mod sandbox;
mod segments;
mod settings;
mod ship_hold;
mod sketches;
mod sql;
mod stock;
mod stock_appended;
mod stock_history;
mod stop;
mod tenant_retention;
mod times;
mod unordered;
mod unsynced;
mod upkeep;
mod uploads;
