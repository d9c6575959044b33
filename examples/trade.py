"""What the shop says of its people, companies, products and orders: traits and properties."""

import random

from examples.people import Message, Person, ascii_letters
from examples.vocabulary import Company, Product


def traits(rng: random.Random, person: Person) -> Message:
    told: Message = {
        "email": person.email,
        "firstName": person.first,
        "lastName": person.last,
        "address": {
            "city": person.city,
            "country": person.country,
            "state": person.region,
            "postalCode": "0000",
        },
        "plan": "team" if person.company else rng.choice(("free", "member", "member")),
        "loyalty_points": rng.randrange(0, 2000, 10),
    }
    dice = rng.random()
    if dice < 0.15:
        told["name"] = f"{told.pop('firstName')} {told.pop('lastName')}"
    elif dice < 0.3:
        told["phone"] = person.phone
        told["nickname"] = None
    elif dice < 0.4:
        told["address"] = None
        told["loyalty_points"] = str(told["loyalty_points"])
    return told


def account_traits(rng: random.Random, person: Person) -> Message:
    """Traits as the accounts database spells them: snake_case, points as text."""
    traits: Message = {
        "first_name": person.first,
        "last_name": person.last,
        "plan": rng.choice(("member", "member", "team", None)),
        "loyalty_points": str(rng.randrange(0, 2000, 10)),
        "created_at": f"2024-03-0{rng.randrange(1, 10)}T10:00:00Z",
        "interests": rng.sample(("tents", "packs", "stoves", "boots"), rng.randrange(3)),
    }
    if rng.random() < 0.3:
        traits["gender"] = rng.choice(("female", "male", "non-binary", ""))
    return traits


def company_traits(rng: random.Random, company: Company) -> Message:
    traits: Message = {
        "name": company.name,
        "industry": company.industry,
        "employees": company.employees if rng.random() < 0.5 else str(company.employees),
        "plan": rng.choice(("starter", "business")),
    }
    if rng.random() < 0.4:
        traits["address"] = {"city": company.city, "street": "1 Harbour Road"}
        traits["website"] = f"https://{ascii_letters(company.name)}.example"
    return traits


def product_properties(rng: random.Random, product: Product) -> Message:
    return {
        "product_id": product.sku,
        "name": product.name,
        "category": product.category,
        "price": product.price if rng.random() < 0.9 else str(product.price),
        "currency": "EUR",
        "quantity": rng.choice((1, 1, 1, 2, "2")),
    }


def order_number(rng: random.Random) -> str:
    return f"FW-{rng.randrange(10**6):06d}"


def order(rng: random.Random, person: Person, product: Product) -> Message:
    quantity = rng.choice((1, 1, 1, 2))
    revenue = round(product.price * quantity, 2)
    person.orders += 1
    person.revenue += revenue
    return {
        "order_id": order_number(rng),
        "revenue": revenue,
        "shipping": rng.choice((0, 4.9)),
        "currency": "EUR",
        "coupon": rng.choice((None, "AUTUMN10")),
        "products": [{"product_id": product.sku, "name": product.name, "price": product.price, "quantity": quantity}],
    }
