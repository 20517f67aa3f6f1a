//! One percent of the orders gets another status of a sale, through the API, so that the answers stay the same.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use firehose::gen_dataset::{Orders, World};
use firehose::orders::OrderStatus;

use crate::http::{connect, exchange_on};
use crate::process;

/// One order in this many gets another status.
const SHARE: usize = 100;
/// Connections at the same time. A commit has the changes of all of them.
const CONNECTIONS: usize = 64;

/// Sets the statuses. Another round sets others. Returns the number of changed orders.
pub(super) fn change(addr: SocketAddr, world: &World, round: usize) -> Result<usize> {
    let status = [OrderStatus::Shipped, OrderStatus::Delivered][round % 2];
    let mut orders = Orders::new(world);
    let (mut at, mut wanted) = (0, Vec::new());
    while let Some(order) = orders.next() {
        at += 1;
        if at % SHARE == 0 && order.status.is_sale() {
            wanted.push((order.tenant_id.to_owned(), order.order_id.as_str().to_owned()));
        }
    }
    let share = wanted.len().div_ceil(CONNECTIONS).max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            wanted.chunks(share).map(|part| scope.spawn(move || set(addr, part, status))).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(done) => done,
            Err(_) => anyhow::bail!("a thread that sets statuses panicked"),
        })
    })?;
    Ok(wanted.len())
}

fn set(addr: SocketAddr, orders: &[(String, String)], status: OrderStatus) -> Result<()> {
    let mut stream = connect(addr)?;
    let body = format!("{{\"status\":\"{}\"}}", status.as_str());
    for (tenant_id, order_id) in orders {
        ensure!(!process::interrupted(), "interrupted");
        let request = format!(
            "PATCH /api/v1/tenants/{tenant_id}/orders/{order_id} HTTP/1.1\r\nHost: {addr}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (status, answer) = exchange_on(&mut stream, request.as_bytes())?;
        ensure!(status == 200, "{order_id}: {}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}
