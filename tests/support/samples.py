"""Real inputs: the photographs scikit-image ships, and sentences as archives have them."""

from __future__ import annotations

from pathlib import Path

import skimage.data

_FOLDER = Path(skimage.data.__file__).parent
PHOTOGRAPHS = [
    _FOLDER / name
    for name in (
        *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png"),
        *("coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "microaneurysms.png"),
        *("moon.png", "motorcycle_left.png", "motorcycle_right.png", "page.png", "retina.jpg", "rocket.jpg"),
        "text.png",
    )
]
SENTENCES = [
    "a",
    ".",
    "?!",
    " cat ",
    "7",
    "ß",
    "漢",
    "🙂",
    "a photo of a cat",
    "A PHOTO OF A CAT",
    "an astronaut in an orange suit in front of a space shuttle",
    "a cup of coffee on a wooden table, seen from above",
    "the surface of the moon",
    "two people shake hands at a conference in Brussels",
    "Flooded street in the old town, November 1966",
    "BREAKING: protests continue for the third day #news @agency",
    "It's what they'd've said, isn't it?",
    "1,234.56 € — 20 % off until 31/12/2026!",
    "https://example.org/archive?id=42&type=image",
    "don't   collapse\tthese\n\nspaces",
    "Ein Hund läuft über die nasse Wiese",
    "Der Rhein führt Hochwasser, die Schifffahrt ist eingestellt",
    "Une manifestation à Paris, près de la place de la République",
    "L'été dernier, naïveté et cœur brisé",
    "El niño montó en bicicleta por la montaña",
    "São Paulo amanhece com neblina e trânsito lento",
    "Πλήθος κόσμου στην πλατεία Συντάγματος",
    "Пожар на складе потушен к утру",
    "زلزال يضرب الساحل دون إصابات",
    "שלום עולם",
    "東京の夜景、雨上がり",
    "서울의 봄, 벚꽃이 핀 거리",
    "मुंबई में भारी बारिश",
    "กรุงเทพฯ ยามค่ำคืน",
    "😂😂😂😂😂😂😂😂 best goal ever ⚽️🔥",
    "👩‍👩‍👧‍👦 family picnic 🧺 in the park 🌳",
    "🇪🇺🇩🇪🇫🇷🇮🇹 flags in front of the parliament",
    "e\u0301 combining, \u00e9 composed",
    "ﬁne ligatures & ﬀ oddities — “smart quotes” … and dashes –",
    "HTML &amp; entities &lt;b&gt;bold&lt;/b&gt; &eacute;t&eacute;",
    "mojibake: schÃ¶n, cafÃ©, naÃ¯ve",
    "tabs\tand\r\nwindows line breaks\r\n",
    "zero\u200bwidth\u200bspaces and a soft\u00adhyphen",
    "the token <|endoftext|> in the middle of a sentence",
    "supercalifragilisticexpialidocious" * 12,
    "x" * 5000,
    "word " * 200,
    " ".join(f"sentence number {i} about the harbour, its cranes and the ships." for i in range(20)),
    "the same short phrase again and again, " * 30,
    "seventy-five words " + "and " * 73,
]
assert len(PHOTOGRAPHS) == 20
assert len(SENTENCES) == len(set(SENTENCES)) == 50
