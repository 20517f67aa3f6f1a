"""The events service that firehose replaces: FastAPI, SQLAlchemy, an upsert on (tenant_id, event_id).

Settings: UPSERT_DATABASE names the SQLite file. Run with one uvicorn worker:
    UPSERT_DATABASE=events.db uvicorn app:app --workers 1 --no-access-log
"""

import os
from datetime import datetime, timezone

from fastapi import FastAPI
from pydantic import BaseModel, Field
from sqlalchemy import JSON, DateTime, Integer, String, UniqueConstraint, create_engine, event, func, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine(f"sqlite:///{os.environ['UPSERT_DATABASE']}", connect_args={"timeout": 60})


@event.listens_for(engine, "connect")
def configure(connection, _record) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


class Base(DeclarativeBase):
    pass


class EventRow(Base):
    __tablename__ = "events"
    __table_args__ = (UniqueConstraint("tenant_id", "event_id"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(200), index=True)
    event_id: Mapped[str] = mapped_column(String(200))
    source: Mapped[str] = mapped_column(String(100))
    event_type: Mapped[str] = mapped_column(String(100))
    timestamp: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
    payload: Mapped[dict] = mapped_column(JSON)


class Event(BaseModel):
    event_id: str = Field(min_length=1, max_length=200)
    tenant_id: str = Field(min_length=1, max_length=200)
    source: str = Field(min_length=1, max_length=100)
    event_type: str = Field(min_length=1, max_length=100)
    timestamp: datetime
    payload: dict


class Bulk(BaseModel):
    events: list[Event] = Field(min_length=1, max_length=5000)


Base.metadata.create_all(engine)
app = FastAPI()


@app.post("/event", status_code=202)
def ready() -> dict:
    """Only for whoever waits until the server answers."""
    return {"status": "accepted"}


@app.post("/events/bulk")
def bulk(body: Bulk) -> dict:
    rows = [row.model_dump() for row in body.events]
    with Session(engine) as session:
        result = session.connection().execute(insert(EventRow.__table__).on_conflict_do_nothing(), rows)
        session.commit()
        inserted = result.rowcount
    return {"received": len(rows), "inserted": inserted, "duplicates": len(rows) - inserted}


@app.get("/health")
def health() -> dict:
    with Session(engine) as session:
        stored = session.scalar(select(func.count()).select_from(EventRow))
    return {
        "status": "healthy",
        "at": datetime.now(timezone.utc).isoformat(),
        "queue_size": 0,
        "total_received": stored,
        "total_processed": stored,
        "database_events": stored,
    }
