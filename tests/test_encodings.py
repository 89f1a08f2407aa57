"""Which encodings are named for text that is not UTF-8."""

import pytest

from rawtrain.data.encodings import plausible_encodings

SENTENCES = {
    "gb18030": "他说北京大学的学生在图书馆里看书，天气很好。",
    "big5": "這個學生來自臺北市，他說今天天氣很好。",
    "shift_jis": "昨日、東京でとても大きな地震がありました。",
    "euc_jp": "昨日、東京でとても大きな地震がありました。",
    "euc_kr": "어제 서울에서 열린 회의에 많은 사람들이 참석했다.",
    "cp1251": "Вчера в Москве прошла встреча министров, сообщает агентство.",
    "koi8_r": "Вчера в Москве прошла встреча министров, сообщает агентство.",
    "cp1252": "L’été dernier, les élèves étaient très fatigués à Besançon.",
    "cp1250": "Wczoraj odbyło się spotkanie ministrów, które będzie ważne.",
    "cp1253": "Χθες στην Αθήνα έγινε η συνάντηση των υπουργών.",
    "cp1254": "Dün İstanbul'da bakanların görüşmesi gerçekleşti, çağrı yapıldı.",
    "cp1255": "אתמול התקיימה בירושלים פגישה של השרים",
    "cp1256": "اجتمع الوزراء امس في القاهرة وقال الرئيس",
}
MORE_THAN_ONE = {"cp1254": {"cp1252"}, "cp1252": {"cp1250"}, "cp1250": {"cp1252"}}


@pytest.mark.parametrize("encoding", SENTENCES)
@pytest.mark.parametrize("form", ["{}\n", "{}\n" * 200, "1\t{}\tO\n"])
def test_the_encoding_of_a_sentence_is_named_and_no_other_that_makes_rubbish(encoding, form):
    named = plausible_encodings(form.replace("{}", SENTENCES[encoding]).encode(encoding))
    assert encoding in named
    assert set(named) <= {encoding} | MORE_THAN_ONE.get(encoding, set())


def test_of_two_that_fit_alike_the_one_that_is_seen_more_comes_first():
    assert plausible_encodings("España y Perú\n".encode("cp1252")) == ["cp1252", "cp1250"]


@pytest.mark.parametrize("encoding", SENTENCES)
def test_words_a_line_are_enough(encoding):
    words = SENTENCES[encoding].split() if " " in SENTENCES[encoding] else SENTENCES[encoding]
    data = "".join(f"{word} O\n" for word in words).encode(encoding)
    assert encoding in plausible_encodings(data)


@pytest.mark.parametrize("data", [b"", b"plain\n", b"\xff\xff\x81\n", bytes(range(128, 256))])
def test_no_encoding_is_named_for_what_is_no_text(data):
    assert plausible_encodings(data) == []
