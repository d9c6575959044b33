"""The small world that the sample tells of: Fernway, a shop for outdoor gear that also equips teams."""

from typing import Final, NamedTuple

SITE: Final = "https://www.fernway.example"
SPACE_ID: Final = "spa_9tKq2wFernwayProd"


class Product(NamedTuple):
    sku: str
    name: str
    category: str
    price: float


PRODUCTS: Final = (
    Product("TN-210", "Ridgeline 2 Tent", "Tents", 289.0),
    Product("TN-340", "Basecamp 4 Tent", "Tents", 449.5),
    Product("SB-015", "Lowland Sleeping Bag 5°C", "Sleeping", 119.0),
    Product("SB-120", "Alpine Sleeping Bag -12°C", "Sleeping", 259.0),
    Product("SB-300", "Featherlight Mat", "Sleeping", 89.9),
    Product("PK-450", "Traverse 45 Pack", "Packs", 179.0),
    Product("PK-220", "Daybreak 22 Pack", "Packs", 84.0),
    Product("CK-010", "Ember Stove", "Cooking", 64.5),
    Product("CK-044", "Titanium Pot 0.9 l", "Cooking", 48.0),
    Product("LT-007", "Polaris Headlamp", "Lights", 54.9),
    Product("LT-019", "Campfire Lantern", "Lights", 39.0),
    Product("JK-501", "Storm Shell Jacket", "Clothing", 329.0),
    Product("JK-118", "Merino Layer", "Clothing", 79.9),
    Product("BT-880", "Granite Boots", "Footwear", 219.0),
)

ARTICLES: Final = (
    ("choosing-a-tent", "How to choose a tent"),
    ("winter-layers", "Layers for winter, explained"),
    ("first-thru-hike", "Notes from a first thru-hike"),
    ("team-offsites", "Team offsites that people remember"),
)

PEOPLE: Final = (
    ("Ada", "Lindqvist", "SE", "Stockholm", "Södermalm", "sv-SE", "Europe/Stockholm"),
    ("Mateo", "García", "ES", "Madrid", "Madrid", "es-ES", "Europe/Madrid"),
    ("Zoë", "van der Berg", "NL", "Noord-Holland", "Amsterdam", "nl-NL", "Europe/Amsterdam"),
    ("Hiroshi", "田中", "JP", "Tokyo", "Shibuya", "ja-JP", "Asia/Tokyo"),
    ("Priya", "Raghunathan", "IN", "Karnataka", "Bengaluru", "en-IN", "Asia/Kolkata"),
    ("Liam", "O'Connor", "IE", "Leinster", "Dublin", "en-IE", "Europe/Dublin"),
    ("Chloé", "Dubois", "FR", "Rhône", "Lyon", "fr-FR", "Europe/Paris"),
    ("Noah", "Weiß", "DE", "Bayern", "München", "de-DE", "Europe/Berlin"),
    ("Amara", "Okafor", "NG", "Lagos", "Ikeja", "en-NG", "Africa/Lagos"),
    ("Grace", "Hopkins", "US", "Oregon", "Portland", "en-US", "America/Los_Angeles"),
    ("Ethan", "Brooks", "US", "Colorado", "Boulder", "en-US", "America/Denver"),
    ("Sofía", "Hernández", "MX", "Jalisco", "Guadalajara", "es-MX", "America/Mexico_City"),
    ("Olivia", "Nguyen", "CA", "British Columbia", "Vancouver", "en-CA", "America/Vancouver"),
    ("Łukasz", "Wójcik", "PL", "Małopolskie", "Kraków", "pl-PL", "Europe/Warsaw"),
    ("Aroha", "Ngata", "NZ", "Otago", "Dunedin", "en-NZ", "Pacific/Auckland"),
    ("Bruno", "Cardoso", "BR", "Paraná", "Curitiba", "pt-BR", "America/Sao_Paulo"),
)


class Company(NamedTuple):
    group_id: str | int
    name: str
    industry: str
    employees: int
    city: str


COMPANIES: Final = (
    Company("acct_northbeam", "Northbeam Robotics", "Robotics", 420, "Boulder"),
    Company("acct_halcyon", "Halcyon Health", "Healthcare", 1800, "Portland"),
    Company("acct_lumen", "Lumen & Søn", "Design", 35, "København"),
    Company("acct_kitepay", "KitePay", "Fintech", 260, "Dublin"),
    Company("acct_atlas", "Atlas Freight", "Logistics", 5200, "Rotterdam"),
    Company("acct_verdant", "Verdant Schools", "Education", 90, "Vancouver"),
    Company(77120, "Basalt Studios", "Games", 140, "Kraków"),
    Company("acct_quanta", "Quanta Labs 量子", "Research", 610, "Tokyo"),
)


class Browser(NamedTuple):
    user_agent: str
    screen: tuple[int, int] | None
    hints: tuple[str, bool, str]
    """Brand, whether mobile, and platform, as `userAgentData` says them."""


BROWSERS: Final = (
    Browser(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/141.0.0.0 Safari/537.36",
        None,
        ("Google Chrome", False, "Windows"),
    ),
    Browser(
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/18.1 Safari/605.1.15",
        (1440, 900),
        ("Safari", False, "macOS"),
    ),
    Browser(
        "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
        None,
        ("Firefox", False, "Linux"),
    ),
    Browser(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0",
        (1920, 1080),
        ("Microsoft Edge", False, "Windows"),
    ),
    Browser(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/18.1 Mobile/15E148 Safari/604.1",
        None,
        ("Safari", True, "iOS"),
    ),
    Browser(
        "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/141.0.0.0 Mobile Safari/537.36",
        None,
        ("Google Chrome", True, "Android"),
    ),
)

TABLET: Final = Browser(
    "Mozilla/5.0 (iPad; CPU OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.6 Mobile/15E148 Safari/604.1",
    None,
    ("Safari", True, "iPadOS"),
)
"""The browser of a household's shared device."""

PHONES: Final = (
    ("Apple", "iPhone17,1", "ios", "iOS", "18.1", 393, 852),
    ("Apple", "iPhone14,5", "ios", "iOS", "17.6.1", 390, 844),
    ("Google", "Pixel 9", "android", "Android", "15", 412, 915),
    ("samsung", "SM-S921B", "android", "Android", "14", 384, 832),
)
"""Manufacturer, model, device type, operating system, its version, screen width and height in points."""

CAMPAIGNS: Final = (
    {"name": "autumn-sale", "source": "newsletter", "medium": "email"},
    {"name": "tents-search", "source": "google", "medium": "cpc", "term": "two person tent"},
)
REFERRERS: Final = (
    "",
    "https://www.google.com/",
    "https://news.ycombinator.com/",
    "https://trailnotes.example/",
)
