"""The orders backend that firehose replaces: Django, its REST framework and ORM, SQLite.

A request's NDJSON is read line by line; every thousand rows go through a serializer (many=True, so that its fields
are made once) and through four bulk_create(ignore_conflicts=True) in one transaction. Natural keys, so that a
duplicate needs no look-up: the fastest way the ORM has.

Settings: DJANGO_DATABASE names the SQLite file. Run with one worker:
    DJANGO_DATABASE=orders.db gunicorn app:app --workers 1 --timeout 0
"""

import json
import os
from itertools import islice

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ["DJANGO_DATABASE"],
            "CONN_MAX_AGE": None,
            "OPTIONS": {
                "timeout": 60,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            },
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    REST_FRAMEWORK={"UNAUTHENTICATED_USER": None, "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"]},
    ROOT_URLCONF="app",
    USE_TZ=True,
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework import serializers  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

BATCH_ROWS = 1_000
STATUSES = ["pending", "paid", "shipped", "delivered", "cancelled", "refunded"]


class Customer(models.Model):
    key = models.CharField(primary_key=True, max_length=401)
    tenant_id = models.CharField(max_length=200)
    customer_id = models.CharField(max_length=200)
    name = models.CharField(max_length=200)
    email = models.CharField(max_length=320)

    class Meta:
        app_label = "shop"


class Product(models.Model):
    key = models.CharField(primary_key=True, max_length=401)
    tenant_id = models.CharField(max_length=200)
    product_id = models.CharField(max_length=200)
    category = models.CharField(max_length=100)

    class Meta:
        app_label = "shop"


class Order(models.Model):
    key = models.CharField(primary_key=True, max_length=401)
    tenant_id = models.CharField(max_length=200)
    order_id = models.CharField(max_length=200)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, db_index=False)
    status = models.CharField(max_length=10)
    currency = models.CharField(max_length=3)
    ordered_at = models.DateTimeField()
    total = models.DecimalField(max_digits=19, decimal_places=4)

    class Meta:
        app_label = "shop"
        indexes = [models.Index(fields=["tenant_id", "ordered_at"], name="order_time")]


class Item(models.Model):
    order = models.ForeignKey(Order, on_delete=models.CASCADE, db_index=False)
    line = models.IntegerField()
    product = models.ForeignKey(Product, on_delete=models.PROTECT, db_index=False)
    quantity = models.IntegerField()
    unit_price = models.DecimalField(max_digits=19, decimal_places=4)

    class Meta:
        app_label = "shop"
        constraints = [models.UniqueConstraint(fields=["order", "line"], name="item_line")]


with connection.schema_editor() as editor:
    for model in (Customer, Product, Order, Item):
        editor.create_model(model)


class ItemSerializer(serializers.Serializer):
    product_id = serializers.CharField(max_length=200)
    category = serializers.CharField(max_length=100)
    quantity = serializers.IntegerField(min_value=1)
    unit_price = serializers.DecimalField(max_digits=19, decimal_places=4, min_value=0)


class OrderSerializer(serializers.Serializer):
    order_id = serializers.CharField(max_length=200)
    tenant_id = serializers.CharField(max_length=200)
    customer_id = serializers.CharField(max_length=200)
    customer_name = serializers.CharField(max_length=200, allow_blank=True)
    customer_email = serializers.CharField(max_length=320)
    status = serializers.ChoiceField(STATUSES)
    currency = serializers.RegexField("^[A-Z]{3}$")
    ordered_at = serializers.DateTimeField()
    items = ItemSerializer(many=True, allow_empty=False)


def store(rows: list[dict]) -> None:
    customers, products, orders, items = {}, {}, [], []
    for row in rows:
        tenant = row["tenant_id"]
        customer_key = f"{tenant}/{row['customer_id']}"
        if customer_key not in customers:
            customers[customer_key] = Customer(
                key=customer_key,
                tenant_id=tenant,
                customer_id=row["customer_id"],
                name=row["customer_name"],
                email=row["customer_email"],
            )
        order_key = f"{tenant}/{row['order_id']}"
        for line, item in enumerate(row["items"]):
            product_key = f"{tenant}/{item['product_id']}"
            if product_key not in products:
                products[product_key] = Product(
                    key=product_key, tenant_id=tenant, product_id=item["product_id"], category=item["category"]
                )
            items.append(
                Item(
                    order_id=order_key,
                    line=line,
                    product_id=product_key,
                    quantity=item["quantity"],
                    unit_price=item["unit_price"],
                )
            )
        orders.append(
            Order(
                key=order_key,
                tenant_id=tenant,
                order_id=row["order_id"],
                customer_id=customer_key,
                status=row["status"],
                currency=row["currency"],
                ordered_at=row["ordered_at"],
                total=sum(item["quantity"] * item["unit_price"] for item in row["items"]),
            )
        )
    with transaction.atomic():
        Customer.objects.bulk_create(customers.values(), ignore_conflicts=True)
        Product.objects.bulk_create(products.values(), ignore_conflicts=True)
        Order.objects.bulk_create(orders, ignore_conflicts=True)
        Item.objects.bulk_create(items, ignore_conflicts=True)


class Ingest(APIView):
    authentication_classes = []
    permission_classes = []

    def post(self, request) -> Response:
        before, received, errors = Order.objects.count(), 0, []
        lines = iter(request._request)
        while texts := list(islice(lines, BATCH_ROWS)):
            serializer = OrderSerializer(data=[json.loads(text) for text in texts], many=True)
            if serializer.is_valid():
                store(serializer.validated_data)
            else:
                errors.extend(error for error in serializer.errors if error)
            received += len(texts)
        inserted = Order.objects.count() - before
        return Response(
            {
                "rows_received": received,
                "rows_inserted": inserted,
                "rows_duplicate": received - inserted - len(errors),
                "rows_failed": len(errors),
                "errors": errors[:1000],
            }
        )


class Ready(APIView):
    """Only for whoever waits until the server answers."""

    authentication_classes = []
    permission_classes = []

    def post(self, request) -> Response:
        return Response({"status": "accepted"}, status=202)


class Health(APIView):
    authentication_classes = []
    permission_classes = []

    def get(self, request) -> Response:
        stored = Order.objects.count()
        return Response(
            {
                "status": "healthy",
                "queue_size": 0,
                "total_received": stored,
                "total_processed": stored,
                "database_events": stored,
            }
        )


urlpatterns = [
    path("api/v1/ingest/orders/", Ingest.as_view()),
    path("event", Ready.as_view()),
    path("health", Health.as_view()),
]
app = get_wsgi_application()
