//! The words that posts are made of, by category. Data only: how they are put together is not known here.

/// What posts of one category talk about.
#[derive(Debug)]
pub(super) struct Topic {
    /// The category, as it stands in the table.
    pub(super) name: &'static str,
    /// Things in the plural.
    pub(super) things: &'static [&'static str],
    /// What such things are like.
    pub(super) traits: &'static [&'static str],
    /// What follows a thing: for whom, where, when.
    pub(super) scenes: &'static [&'static str],
    /// Sentences for descriptions; `{t}`, `{a}`, `{s}`, `{n}` stand for a thing, a trait, a scene and a number.
    pub(super) sentences: &'static [&'static str],
    pub(super) emoji: &'static [&'static str],
    /// Whole titles in other languages and scripts.
    pub(super) abroad: &'static [&'static str],
}

/// In alphabetical order, as their blocks stand in the table.
#[rustfmt::skip] // One list a line.
pub(super) const TOPICS: [Topic; 13] = [
    Topic {
        name: "art",
        things: &["watercolours", "pencil sketches", "abstract canvases", "linocut prints", "oil portraits", "ink drawings", "collages", "murals", "pastel studies", "gouache landscapes", "charcoal figures", "sketchbook pages"],
        traits: &["loose", "moody", "bold", "minimalist", "large", "colourful", "surreal", "textured"],
        scenes: &["for beginners", "above the sofa", "in one afternoon", "on a rainy day", "with three colours", "for a small studio"],
        sentences: &["Start with a light wash and let it dry before you add the darks.", "These {a} {t} need little more than paper and patience.", "I painted {n} of them before one worked.", "Original {t}, signed and ready to hang {s}.", "The trick is to squint: values first, colour later."],
        emoji: &["🎨", "🖌️", "🖼️"],
        abroad: &["Ζωγραφική με ακουαρέλα για αρχάριους", "Акварель шаг за шагом: зимний лес", "水彩で描く静かな海", "رسم بالفحم خطوة بخطوة", "Peindre à l'aquarelle : l'eau d'abord", "어반 스케치 시작하기"],
    },
    Topic {
        name: "beauty",
        things: &["nail designs", "skin care routines", "braided updos", "lip colours", "face masks", "winged eyeliners", "curtain bangs", "balayage tones", "make-up looks", "body scrubs", "press-on nails", "hair oils"],
        traits: &["glowy", "five-minute", "bridal", "natural", "glittery", "soft", "vegan", "long-lasting"],
        scenes: &["for dry skin", "over 40", "for curly hair", "on a budget", "before a wedding", "for sensitive eyes"],
        sentences: &["Leave it on for {n} minutes, then rinse with cool water.", "My favourite {t} {s}, tried for a whole month.", "No filter, no tricks, just {a} {t}.", "You'll need coconut oil, sea salt and a clean jar.", "Which of these {t} would you wear?"],
        emoji: &["💅", "💄", "✨", "🧖🏽‍♀️"],
        abroad: &["Μανικιούρ για καλοκαίρι", "Маникюр на каждый день: 20 идей", "大人のナチュラルメイク", "تسريحات شعر بسيطة للعرائس", "Rutina de noche para piel seca", "自然妆容教程"],
    },
    Topic {
        name: "christmas",
        things: &["wreaths", "tree ornaments", "gingerbread houses", "stocking stuffers", "mantel garlands", "advent calendars", "table settings", "paper stars", "porch decorations", "gift tags", "sugar cookies", "snow globes"],
        traits: &["rustic", "festive", "handmade", "farmhouse", "cosy", "red and gold", "last-minute", "nostalgic"],
        scenes: &["for the front door", "kids can make", "for a tiny flat", "on Christmas Eve", "under ten dollars", "for the whole family"],
        sentences: &["Gather pine cones, twine and a handful of cinnamon sticks.", "We hang {n} of these {t} every December.", "A {a} touch {s}, and it smells of oranges.", "Print the free template, cut, fold, done!", "Santa would approve of these {a} {t}."],
        emoji: &["🎄", "🎅", "❄️", "🎁"],
        abroad: &["Χριστουγεννιάτικα στολίδια από χαρτί", "Новогодние поделки своими руками", "手作りのクリスマスリース", "Weihnachtsplätzchen wie bei Oma", "Décorations de Noël faites à la maison", "크리스마스 트리 장식"],
    },
    Topic {
        name: "diy-and-crafts",
        things: &["macramé hangers", "paper flowers", "mason jar lanterns", "crochet baskets", "salt dough magnets", "pallet shelves", "tie-dye shirts", "felt animals", "resin coasters", "friendship bracelets", "origami cranes", "scrap fabric bunting"],
        traits: &["easy", "upcycled", "no-sew", "cheap", "kid-friendly", "pretty", "weekend", "clever"],
        scenes: &["for toddlers", "from old jeans", "in under an hour", "without glue", "for your balcony", "to sell at a fair"],
        sentences: &["All you need is scissors, string and {n} wooden beads.", "Turn old jars into {a} {t} {s}.", "My 6\" template is at the bottom of the post.", "Follow the step-by-step photos, it's easier than it looks.", "Messy? A little. Fun? Absolutely!"],
        emoji: &["✂️", "🧶", "🪡"],
        abroad: &["Κατασκευές με χαρτόνι για παιδιά", "Вязание крючком: схемы для начинающих", "折り紙で作る春の花", "أفكار لإعادة تدوير الزجاجات", "Manualidades fáciles con \"cosas\" de casa", "घर पर बनाएं कागज़ के फूल"],
    },
    Topic {
        name: "education",
        things: &["phonics games", "reading corners", "science experiments", "spelling worksheets", "maths centres", "classroom posters", "handwriting drills", "flash cards", "lesson plans", "times table tricks", "story prompts", "sensory bins"],
        traits: &["printable", "hands-on", "quiet", "free", "playful", "differentiated", "screen-free", "quick"],
        scenes: &["for first grade", "for rainy recess", "for home schoolers", "in small groups", "for shy readers", "at the end of term"],
        sentences: &["My class asked for {n} more rounds of this.", "These {t} work {s} and need no preparation.", "Laminate once, use them all year.", "Download the {a} pack as a PDF.", "Children learn best when their hands are busy."],
        emoji: &["📚", "✏️", "🧪"],
        abroad: &["Παιχνίδια με γράμματα για την πρώτη τάξη", "Развивающие игры для дошкольников", "ひらがな練習プリント", "أوراق عمل للحروف العربية", "Jeux de calcul pour le CE1", "דפי עבודה לכיתה א"],
    },
    Topic {
        name: "event-planning",
        things: &["baby shower favours", "balloon arches", "seating charts", "dessert tables", "wedding invitations", "photo booths", "centrepieces", "party checklists", "bridal brunch menus", "garden parties", "welcome signs", "christening boxes"],
        traits: &["elegant", "boho", "budget", "pastel", "tropical", "unforgettable", "simple", "black-tie"],
        scenes: &["for fifty guests", "in a back garden", "for a boy", "on short notice", "by the sea", "for a first birthday"],
        sentences: &["Book the venue first, everything else can wait.", "We made {n} of these {t} the night before.", "{a} {t} {s} that guests will talk about.", "Grab the free checklist & timeline.", "Don't forget a plan for rain!"],
        emoji: &["🎉", "🎈", "🥂"],
        abroad: &["Βάπτιση με θέμα τη θάλασσα", "Оформление свадьбы в стиле бохо", "誕生日パーティーの飾り付け", "توزيعات مواليد بسيطة", "Decoração de festa infantil", "생일 파티 테이블 꾸미기"],
    },
    Topic {
        name: "finance",
        things: &["budget planners", "savings challenges", "side hustles", "debt trackers", "meal budgets", "index funds", "cash envelopes", "no-spend months", "frugal habits", "passive income streams", "emergency funds", "money dates"],
        traits: &["realistic", "simple", "proven", "low-risk", "boring but good", "beginner", "printable", "smart"],
        scenes: &["for students", "on one income", "before thirty", "for busy mums", "in 90 days", "without a spreadsheet"],
        sentences: &["Put away {n} dollars a week and forget about it.", "How we paid off our car with {a} {t}.", "Money isn't everything, but {t} help.", "Small sums, long time: that's the whole secret.", "Here is the plan, month by month, {s}."],
        emoji: &["💰", "💸", "📈"],
        abroad: &["Πώς να κάνετε οικονομία κάθε μήνα", "Как копить деньги: простые правила", "家計簿の続け方", "نصائح لتوفير المال كل شهر", "Cómo ahorrar 1.000 € en un año", "零基础理财入门"],
    },
    Topic {
        name: "home-decor",
        things: &["gallery walls", "floating shelves", "linen curtains", "reading nooks", "plant stands", "entryway benches", "rattan lamps", "kitchen islands", "throw pillows", "bathroom tiles", "bookcases", "coffee tables"],
        traits: &["modern", "Scandinavian", "renter-friendly", "vintage", "airy", "coastal", "neutral", "budget"],
        scenes: &["for small spaces", "in a rented flat", "with natural light", "under the stairs", "for the living room", "on a shoestring"],
        sentences: &["We painted the wall in one evening and love it.", "{n} {a} {t} that make a room feel bigger.", "White, oak and a bit of green: that's all.", "Measure twice, drill once.", "Before & after: the {t} changed everything {s}."],
        emoji: &["🏡", "🪴", "🛋️"],
        abroad: &["Ιδέες για μικρό σαλόνι", "Интерьер маленькой кухни: до и после", "一人暮らしの部屋づくり", "ديكور غرف معيشة صغيرة", "Wohnideen für kleine Räume", "Küçük evler için dekorasyon"],
    },
    Topic {
        name: "mens-fashion",
        things: &["linen shirts", "chelsea boots", "wool overcoats", "slim chinos", "denim jackets", "summer suits", "leather belts", "knit polos", "white sneakers", "field watches", "barber cuts", "tweed blazers"],
        traits: &["casual", "timeless", "smart", "oversized", "tailored", "street", "navy", "Italian"],
        scenes: &["for the office", "for tall men", "over 50", "in autumn", "at a summer wedding", "for a first date"],
        sentences: &["Pair {a} {t} with a plain white tee.", "Fit matters more than the label.", "{n} outfits from one suitcase.", "Roll the sleeves twice, not three times.", "These {t} work {s}, every time."],
        emoji: &["👔", "👞", "🧥"],
        abroad: &["Ανδρικό στυλ για το φθινόπωρο", "Мужской стиль: базовый гардероб", "大人のメンズコーデ", "أزياء رجالية كلاسيكية", "Tenues d'été pour homme", "남자 가을 코디"],
    },
    Topic {
        name: "quotes",
        things: &["quotes about love", "morning affirmations", "words of wisdom", "quotes for friends", "short poems", "proverbs", "one-line jokes", "book quotes", "lines about loss", "notes to self", "quotes on courage", "breakup quotes"],
        traits: &["honest", "funny", "deep", "uplifting", "bittersweet", "true", "gentle", "savage"],
        scenes: &["for hard days", "to start your week", "for your daughter", "about growing up", "for a birthday card", "to read twice"],
        sentences: &["\"Begin anywhere, but begin.\"", "Save these {a} {t} {s}.", "\"You're not late; you're on the way.\"", "Which of the {n} speaks to you?", "\"Some doors close, so that you look out of the window.\"", "Tag someone who needs this today."],
        emoji: &["❤️", "💭", "🌙"],
        abroad: &["Λόγια για την αγάπη και τον χρόνο", "Цитаты о жизни со смыслом", "心に残る言葉", "أقوال عن الصبر والأمل", "Citations sur l'amitié « vraie »", "मन को छूने वाले विचार"],
    },
    Topic {
        name: "tattoos",
        things: &["fine line tattoos", "floral sleeves", "geometric animals", "matching tattoos", "wrist scripts", "forearm bands", "moon phases", "dotwork mandalas", "compass designs", "tiny symbols", "back pieces", "watercolour tattoos"],
        traits: &["delicate", "meaningful", "blackwork", "small", "Japanese", "minimal", "hidden", "bold"],
        scenes: &["for women", "for brothers", "behind the ear", "with a story", "on the collarbone", "for a first time"],
        sentences: &["Ask your artist for {a} lines, they age better.", "{n} {t} {s} and what they mean.", "It took three hours and hurt less than I feared.", "Done by a friend in black & grey.", "Think about it for a year, then get it."],
        emoji: &["🖤", "🐍", "🌹"],
        abroad: &["Μικρά τατουάζ με νόημα", "Тату на запястье: эскизы", "和柄タトゥーのデザイン", "Tatuajes pequeños para mujer", "Kleine Tattoos mit Bedeutung", "작은 타투 도안"],
    },
    Topic {
        name: "travel",
        things: &["hidden beaches", "packing lists", "city breaks", "mountain huts", "road trips", "night trains", "street food stalls", "island ferries", "desert camps", "hiking trails", "old towns", "hot springs"],
        traits: &["affordable", "dreamy", "secret", "slow", "off-season", "solo", "breathtaking", "family"],
        scenes: &["in Portugal", "with toddlers", "for a long weekend", "in the Dolomites", "on foot", "in southern Japan"],
        sentences: &["Go in May, before everybody else does.", "{n} days were not enough for these {t}.", "Bring water, cash & a paper map.", "Our {a} guide to {t} {s}.", "The bus leaves at 7, the view is worth it."],
        emoji: &["✈️", "🌍", "🏝️", "🇵🇹"],
        abroad: &["Κρυφές παραλίες στην Κρήτη", "Что посмотреть в Грузии за неделю", "京都の静かな散歩道", "أجمل الأماكن في عُمان", "Que voir à Séville en 3 jours", "ที่เที่ยวเชียงใหม่หน้าหนาว"],
    },
    Topic {
        name: "vehicles",
        things: &["camper vans", "classic roadsters", "cargo bikes", "muscle cars", "café racers", "pickup trucks", "rally cars", "electric hatchbacks", "vintage scooters", "motorhomes", "garage builds", "tractors"],
        traits: &["restored", "matt black", "rare", "turbocharged", "rusty", "custom", "1960s", "lightweight"],
        scenes: &["for long hauls", "in the snow", "under 10k", "built at home", "at full throttle", "for two"],
        sentences: &["{n} horsepower, one careful owner.", "We turned an old delivery van into {a} {t}.", "Listen to it with headphones.", "Found in a barn, back on the road {s}.", "Would you take it, or keep looking for {t}?"],
        emoji: &["🚗", "🏍️", "🚐"],
        abroad: &["Κλασικά αυτοκίνητα του '60", "Тюнинг мотоцикла своими руками", "軽バンで車中泊", "سيارات كلاسيكية نادرة", "Voitures anciennes à restaurer", "复古摩托车改装"],
    },
];

/// Titles; `{t}`, `{a}`, `{s}`, `{n}`, `{e}`, `{y}`, `{p}` stand for a thing, a trait, a scene, a number, an emoji, a year and a person.
pub(super) const TITLES: &[&str] = &[
    "{n} {a} {t} {s}",
    "{a} {t} {s}",
    "the best {t} of {y} | {p}",
    "{t}, {t} & {t}",
    "{t}: what nobody tells you",
    "\"{a} {t}\" and {n} other ideas worth saving",
    "{n}+ {a} {t} (that aren't boring)",
    "{e} {a} {t} {e}",
    "why {a} {t} are everywhere - {p}'s guide",
    "{t} {s} - {p}",
    "my {a} {t}",
    "{a} or {a}? {n} {t} compared",
    "{t}",
    "{n} {t} {s} {e} you'll love in {y}",
];

/// Sentences that fit every category.
pub(super) const SENTENCES: &[&str] = &[
    "Find out how {a} {t} {s} can look in {y}.",
    "Looking for {a} {t}? Here are {n} of the best, with tips from {p}.",
    "{p} shows {n} {t} {s}, from {a} to {a}.",
    "Save this pin for later {e}",
    "Read more about {t}, {t} and {t} on the blog.",
    "Click through for the full list, prices and a video.",
    "I can't stop looking at these {a} {t}.",
];
