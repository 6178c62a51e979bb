"""Writing systems that text can be rendered in: words, what a font must have, and who provides fonts and recognizers."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from tokkit.errors import InputError


@dataclass(frozen=True)
class Script:
    """A writing system.

    Attributes:
        name: as `--scripts` takes it.
        unicode: how Unicode begins the names of its letters.
        probe: letters that a font must have, each with a glyph of its own.
        words: what is rendered.
        package: of Debian, with a font.
        tesseract: the language that Tesseract reads it by.
        shaped: its letters change with their neighbours, or run from the right.
    """

    name: str
    unicode: tuple[str, ...]
    probe: str
    words: tuple[str, ...]
    package: str
    tesseract: str
    shaped: bool = False


def _script(name: str, unicode: str, probe: str, words: str, package: str, tesseract: str, *, shaped: bool = False) -> Script:
    normal = tuple(unicodedata.normalize("NFC", word) for word in words.split())
    return Script(name, tuple(unicode.split("|")), probe, normal, package, tesseract, shaped)


_LATIN = """about after again below could every first found great house large learn never other place plant point right small sound spell
    still study their there these thing think three water where which world would write Street Market Coffee Station Museum Total Amount
    Invoice Receipt Cash Change Number Date Price Open Closed Exit Hotel Bank Library School Park Office Garden Bridge River Center North
    South"""
_GREEK = """νερό σπίτι δρόμος αγορά καφές σταθμός μουσείο σύνολο ποσό τιμολόγιο απόδειξη αριθμός ημερομηνία τιμή ανοιχτό κλειστό έξοδος
    ξενοδοχείο τράπεζα βιβλιοθήκη σχολείο πάρκο γραφείο κήπος γέφυρα ποτάμι κέντρο βορράς"""
_CYRILLIC = """вода дом улица рынок кофе станция музей итого сумма счёт чек сдача номер дата цена открыто закрыто выход гостиница банк
    библиотека школа парк офис сад мост река центр север юг"""
_ARMENIAN = """ջուր տուն փողոց շուկա սուրճ կայարան թանգարան գումար համար ամսաթիվ գին բաց փակ ելք հյուրանոց բանկ գրադարան դպրոց այգի
    գրասենյակ կամուրջ գետ կենտրոն հյուսիս հարավ"""
_GEORGIAN = """წყალი სახლი ქუჩა ბაზარი ყავა სადგური მუზეუმი ჯამი თანხა ნომერი თარიღი ფასი ღია გასასვლელი სასტუმრო ბანკი ბიბლიოთეკა სკოლა
    პარკი ოფისი ბაღი ხიდი მდინარე ცენტრი"""
_HEBREW = """מים בית רחוב שוק קפה תחנה מוזיאון סכום חשבון קבלה עודף מספר תאריך מחיר פתוח סגור יציאה מלון בנק ספרייה משרד גינה גשר נהר
    מרכז צפון דרום"""
_ARABIC = """ماء بيت شارع سوق قهوة محطة متحف مجموع مبلغ فاتورة إيصال رقم تاريخ سعر مفتوح مغلق خروج فندق مصرف مكتبة مدرسة حديقة مكتب جسر
    نهر مركز شمال جنوب"""
_DEVANAGARI = """पानी घर सड़क बाज़ार स्टेशन संग्रहालय कुल राशि रसीद नंबर तारीख मूल्य खुला बंद निकास होटल बैंक पुस्तकालय विद्यालय उद्यान
    कार्यालय बगीचा पुल नदी केंद्र उत्तर दक्षिण"""
_BENGALI = """পানি রাস্তা বাজার কফি স্টেশন জাদুঘর মোট রসিদ নম্বর তারিখ মূল্য খোলা বন্ধ হোটেল ব্যাংক বিদ্যালয় উদ্যান অফিস বাগান সেতু নদী
    কেন্দ্র উত্তর দক্ষিণ"""
_TAMIL = """தண்ணீர் வீடு தெரு சந்தை காபி நிலையம் தொகை எண் தேதி விலை விடுதி வங்கி நூலகம் பள்ளி பூங்கா அலுவலகம் தோட்டம் பாலம் ஆறு மையம்
    வடக்கு தெற்கு"""
_THAI = """น้ำ บ้าน ถนน ตลาด กาแฟ สถานี พิพิธภัณฑ์ รวม จำนวน ใบเสร็จ หมายเลข วันที่ ราคา เปิด ปิด ทางออก โรงแรม ธนาคาร ห้องสมุด โรงเรียน สวน
    สำนักงาน สะพาน แม่น้ำ เหนือ ใต้"""
_HAN = """城市 街道 咖啡 车站 博物馆 银行 图书馆 学校 公园 办公室 花园 桥梁 河流 中心 价格 收据 发票 日期 号码 开放 酒店 市场 出口 入口
    北京大学 人民医院 欢迎光临"""
_KANA = """ひらがな カタカナ さくら ありがとう コーヒー ホテル レストラン みなみ ひがし おはよう たべもの のみもの ミュージアム タクシー
    メニュー スーパー やさい くだもの さかな でんしゃ"""
_HANGUL = """서울 시장 커피 학교 도서관 공원 은행 호텔 병원 거리 다리 강물 박물관 가격 영수증 날짜 번호 입구 출구 사무실 정원 중앙 북쪽
    남쪽"""

SCRIPTS = {
    script.name: script
    for script in (
        _script("latin", "LATIN", "aAbBgGmM0189", _LATIN, "fonts-dejavu", "eng"),
        _script("greek", "GREEK", "αβγδθλπσωΩ", _GREEK, "fonts-dejavu", "ell"),
        _script("cyrillic", "CYRILLIC", "бвгджзиклъыэю", _CYRILLIC, "fonts-dejavu", "rus"),
        _script("armenian", "ARMENIAN", "աբգդեզէը", _ARMENIAN, "fonts-dejavu", "hye"),
        _script("georgian", "GEORGIAN", "აბგდევზთ", _GEORGIAN, "fonts-dejavu", "kat"),
        _script("hebrew", "HEBREW", "אבגדהזחט", _HEBREW, "fonts-dejavu", "heb", shaped=True),
        _script("arabic", "ARABIC", "ابتجدرسع", _ARABIC, "fonts-hosny-amiri", "ara", shaped=True),
        _script("devanagari", "DEVANAGARI", "अकगचजतन", _DEVANAGARI, "fonts-lohit-deva", "hin", shaped=True),
        _script("bengali", "BENGALI", "অকগচজতন", _BENGALI, "fonts-lohit-beng-bengali", "ben", shaped=True),
        _script("tamil", "TAMIL", "அகஙசஞடண", _TAMIL, "fonts-lohit-taml", "tam", shaped=True),
        _script("thai", "THAI", "กขคงจฉช", _THAI, "fonts-tlwg-garuda-ttf", "tha", shaped=True),
        _script("han", "CJK", "城市街道车站银行", _HAN, "fonts-noto-cjk", "chi_sim"),
        _script("kana", "HIRAGANA|KATAKANA", "あかさたアカサタ", _KANA, "fonts-noto-cjk", "jpn"),
        _script("hangul", "HANGUL", "서울시장커피학교", _HANGUL, "fonts-noto-cjk", "kor"),
    )
}


def find_script(name: str) -> Script:
    """A script by name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in SCRIPTS:
        raise InputError(f"no script {name!r}; there are {', '.join(SCRIPTS)}")
    return SCRIPTS[name]


def script_of(text: str) -> Script:
    """The script of a text: that of its first letter which belongs to one; latin where none does."""
    for letter in text:
        known = unicodedata.name(letter, "").partition(" ")[0].partition("-")[0]
        for script in SCRIPTS.values():
            if known in script.unicode:
                return script
    return SCRIPTS["latin"]
