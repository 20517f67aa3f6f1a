"""The design that firehose replaces: FastAPI, an in-memory deque, aiosqlite in batches of 100 rows.

Settings: SEED_DATABASE names the SQLite file. Run with one uvicorn worker:
    SEED_DATABASE=events.db uvicorn app:app --workers 1 --no-access-log
"""

import asyncio
import contextlib
import json
import os
from collections import deque
from datetime import datetime

import aiosqlite
from fastapi import FastAPI
from pydantic import BaseModel

BATCH_ROWS = 100
FLUSH_SECONDS = 1.0


class Event(BaseModel):
    user_id: int
    timestamp: datetime
    metadata: dict


class Collector:
    """The queue, its counters and the task that empties it."""

    def __init__(self) -> None:
        self.queue: deque[Event] = deque()
        self.wake = asyncio.Event()
        self.total_received = 0
        self.total_processed = 0
        self.stopping = False

    def accept(self, event: Event) -> None:
        self.queue.append(event)
        self.total_received += 1
        if len(self.queue) >= BATCH_ROWS:
            self.wake.set()

    async def flush(self, database: aiosqlite.Connection) -> None:
        batch = [self.queue.popleft() for _ in range(min(BATCH_ROWS, len(self.queue)))]
        await database.executemany(
            "INSERT INTO events (user_id, timestamp, metadata) VALUES (?, ?, ?)",
            [(event.user_id, event.timestamp.isoformat(), json.dumps(event.metadata)) for event in batch],
        )
        await database.commit()
        self.total_processed += len(batch)

    async def run(self, database: aiosqlite.Connection) -> None:
        while not self.stopping or self.queue:
            if len(self.queue) < BATCH_ROWS and not self.stopping:
                self.wake.clear()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self.wake.wait(), FLUSH_SECONDS)
            if self.queue:
                await self.flush(database)


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI):
    collector = Collector()
    async with aiosqlite.connect(os.environ["SEED_DATABASE"]) as database:
        await database.execute("PRAGMA journal_mode=WAL")
        await database.execute("PRAGMA synchronous=NORMAL")
        await database.execute(
            "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER NOT NULL,"
            " timestamp TEXT NOT NULL, metadata TEXT NOT NULL, created_at TEXT DEFAULT CURRENT_TIMESTAMP)"
        )
        await database.commit()
        app.state.collector = collector
        writer = asyncio.create_task(collector.run(database))
        yield
        collector.stopping = True
        collector.wake.set()
        await writer


app = FastAPI(lifespan=lifespan)


@app.post("/event", status_code=202)
async def event(event: Event) -> dict:
    app.state.collector.accept(event)
    return {"status": "accepted", "message": "Event queued for processing"}


@app.get("/health")
async def health() -> dict:
    collector = app.state.collector
    return {
        "status": "healthy",
        "queue_size": len(collector.queue),
        "total_received": collector.total_received,
        "total_processed": collector.total_processed,
        "database_events": collector.total_processed,
    }
