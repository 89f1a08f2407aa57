"""Which encodings may bytes be in? Asked of what is not UTF-8, to name what to try.

An encoding is plausible if what it decodes has the most frequent letters of the languages that it
was made for, and these stand as they should: accented Latin letters next to plain ones, letters of
other scripts next to their own.
"""

import re

HANZI = (
    "的一是了不在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用"
    "道行所家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心本前开但因只从想日军者"
    "無長机十民第公司市京北新月区名文件使必須字輸入選擇請這個們來為國說時會對於著過發後裡種經學現當沒動"
)
HANGUL = (
    "이다는에의을하고가로지은사기한를도서아자나인리어시대해스니부정제그들전수일과으만면주적보라여장위구상있었"
    "것했원동성국공조비경방신세소미연우계중오안회산선문화내용관개영유실무진학된할없와재당통발분력단행치식차"
)
KANA = "".join(map(chr, range(0x3041, 0x30FD)))
CYRILLIC = "оеаинтсрвлкмдпуяыьзіїъ"
WESTERN = "àâäáãåæçèéêëìíîïñòóôöõøœùúûüßðþýš’‘“”„«»–—…·•°€£§©®™ª¡¿º\xa0"
CENTRAL = "ąćęłńóśźżáčďéěíňřšťúůýžőűăâîäöüôĺľđ’“”„«»–—…\xa0"
TURKISH = "ğışçöüi\u0307âî’“”–—…\xa0"
GREEK = "αοιετσνηυρπκλμςόάίέήώ"
HEBREW = "יוהלאתרבמשנכדםעחקפ"
ARABIC = "ايلمنتربوعدسفهكحقة"

LATIN = {"cp1252": WESTERN, "cp1250": CENTRAL, "cp1254": TURKISH}
OTHERS = {"gb18030": HANZI, "big5": HANZI, "shift_jis": KANA, "euc_jp": KANA, "euc_kr": HANGUL}
OTHERS |= {"cp1251": CYRILLIC, "koi8_r": CYRILLIC, "cp1253": GREEK}
OTHERS |= {"cp1255": HEBREW, "cp1256": ARABIC}


def plausible_encodings(data: bytes) -> list[str]:
    """The encodings that make plausible text of the bytes, which end with a line, best first."""
    plausible: dict[str, tuple[float, str]] = {}  # by text
    for encoding, frequent in (LATIN | OTHERS).items():
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        beyond_ascii = re.findall(r"[^\x00-\x7f]", text.lower() if encoding in LATIN else text)
        share = sum(letter in frequent for letter in beyond_ascii) / max(1, len(beyond_ascii))
        # letters in a row that are not plain, and the plain ones before and after
        runs = re.findall(r"([a-zA-Z]?)([^\W\d_a-zA-Z]+)(?=([a-zA-Z]?))", text)
        near_plain = sum(bool(before or after) for before, _, after in runs) / max(1, len(runs))
        mean_length = sum(len(letters) for _, letters, _ in runs) / max(1, len(runs))
        if encoding in LATIN:
            fits = share > 0.75 and mean_length < 1.5 and (near_plain > 0.2 or len(runs) < 4)
        elif frequent in (HANZI, HANGUL, KANA):
            fits = share > 0.2 and near_plain < 0.3
        else:
            fits = share > 0.7 and near_plain < 0.3 and mean_length > 1.5
        if fits:
            plausible.setdefault(text, (-share, encoding))
    ranked = sorted(plausible.values(), key=lambda found: found[0])
    return [encoding for share, encoding in ranked if share < 0.9 * ranked[0][0]]
