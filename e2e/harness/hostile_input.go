//go:build unix

package harness

import (
	"strings"
)

// InjectionMarker is at the start of each injected line, so that tests can find it.
const InjectionMarker = "forged-by-a-caller"

// SQLInputs returns texts that end a statement, begin another, or make the database wait.
func SQLInputs() []string {
	return []string{
		`'`, `"`, "`", `''`, `\'`, `';`, `--`, `'--`, `' or '1'='1`, `' or 1=1--`, `' or 1=1#`, `' or 1=1/*`,
		`" or ""="`, `') or ('1'='1`, `')) or true--`, `1 or 1=1`, `1' or '1' = '1'--`,
		`'; drop table customers;--`, `'; drop table customers cascade;--`, `1; delete from identities`,
		`'); delete from customers;--`, `'; update identities set role_override='owner';--`,
		`' union select null--`, `' union select id, hash from api_keys--`,
		`' union all select 1,2,3,4,5,6,7,8,9,10--`, `1 union select sqlite_version()`,
		`' and 1=(select count(*) from tenants)--`,
		`'||(select hash from api_keys limit 1)||'`, `' || pg_sleep(10)--`, `'; select pg_sleep(10);--`,
		`1;select pg_sleep(10)`, `' and randomblob(1000000000)--`, `' and load_extension('x')--`,
		`'; attach database '/tmp/x' as y;--`,
		`'; copy customers to '/tmp/x';--`, `'; pragma writable_schema=1;--`, `$1`, `$2`, `$$`,
		`$$;drop table customers;$$`, `?`, `:name`, `@p1`, `{{1}}`, `%s`, `%d%d%d%n`, `\x27 or 1=1--`,
		`%27%20or%201=1--`,
		"\u02bc or 1=1--", "\uff07 or 1=1--", "\u2019 or 1=1--", "'\n or 1=1--", "'\t or\t1=1--",
		"'/**/or/**/1=1--", `admin'/*`, `' group by 1 having 1=1--`, `' order by 99--`, `' limit 0 offset 1--`,
		`null`, `NULL`, `\`, `\\`, `'\`, `; shutdown;`,
	}
}

// PatternInputs returns texts that match everything if a filter treats them as patterns.
func PatternInputs() []string {
	return []string{
		`%`,
		`%%`,
		`_`,
		`__`,
		`______`,
		`%a%`,
		`S%`,
		`Stev_`,
		`\%`,
		`*`,
		`?`,
		`[a-z]%`,
		`.*`,
		`^`,
		`(`,
		`(?i).*`,
		`{`,
		`~`,
		`!`,
	}
}

// LineBreakInputs returns texts that begin another line of a header or a log, control a terminal, or
// run in a browser or a spreadsheet.
func LineBreakInputs() []string {
	return []string{
		"a\r\nX-Injected: " + InjectionMarker, "a\nSet-Cookie: " + InjectionMarker, "a\r" + InjectionMarker,
		"a\r\n\r\n<html>" + InjectionMarker, "a\u2028" + InjectionMarker, "a\u2029" + InjectionMarker,
		"a\u0085" + InjectionMarker, "a\x0b" + InjectionMarker, "a\x0c" + InjectionMarker,
		"a\nlevel=INFO msg=" + InjectionMarker, "a\n{\"level\":\"INFO\",\"msg\":\"" + InjectionMarker + "\"}",
		"a\ntime=2026-01-01T00:00:00Z level=ERROR msg=" + InjectionMarker,
		"\" level=ERROR msg=" + InjectionMarker + " x=\"", "a%0d%0aX-Injected:%20" + InjectionMarker,
		"\x1b[2J\x1b[H", "\x1b]0;title\x07", "\x1b]8;;https://evil.example.com\x1b\\", "\x9b31m",
		"\x1bP$q\x1b\\", "\x08\x08\x08", "\x7f", "\u202eevil", "\u2066evil\u2069", "\u200b\u200c\u200d\ufeff",
		"a\ufffeb",
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `javascript:alert(1)`,
		`</script><svg onload=alert(1)>`, `{{constructor.constructor('alert(1)')()}}`, `${7*7}`, `#{7*7}`,
		`<%= 7*7 %>`, `${jndi:ldap://127.0.0.1/a}`,
		`=HYPERLINK("https://evil.example.com")`, `+1+1`, `-1+1`, `@SUM(1)`, "\t=1+1", "\r=1+1", "\n=1+1",
		`=cmd|' /C calc'!A0`, `'=1+1`, `;=1+1`, `,=1+1`, "\"\n=1+1",
		`$(id)`, "`id`", `;id`, `|id`, `&&id`, `{"a":1}`, `["a"]`, `true`, `0`, `-1`, `1e309`, `NaN`,
		"\U0001f44b\U0001f3fd", "e\u0301", strings.Repeat("a\u0301", 60), strings.Repeat("\U0001f600", 64), "Ⅻ",
		"ﬁ", "İ", "ß", "\u00a0",
	}
}

// PathInputs returns path segments that lead out of a directory or to another route.
func PathInputs() []string {
	return []string{
		`..`, `../`, `../../etc/passwd`, `..\..\windows`, `%2e%2e`, `%2e%2e%2f`, `..%2f..%2f`, `....//`, `..;/`,
		`/etc/passwd`, `//evil.example.com`, `file:///etc/passwd`, `.`, `./`, `%00`, `a%00b`, `%`, `%zz`, `%25`,
		`a/b`, `a?b=c`, `a#b`, `a;b=c`, `a b`, ` `,
		`lookup`, `identity`, `null`, `undefined`, `*`, `me`, `0`, `-1`, `9999999999999999999999`,
		`{customer_id}`, `<x>`, `'`, `"`, "\x00", "\xff", "é", "\u202e", strings.Repeat("a", 300),
		strings.Repeat("0", 32), `01930f6e-0000-7000-8000-00000000000g`,
	}
}

// BrokenJSONStrings returns JSON values that are invalid, no strings, or strings that databases do not
// store unchanged.
func BrokenJSONStrings() []string {
	return []string{
		`"\u0000"`, `"a\u0000b"`, "\"\x00\"", "\"\xff\"", "\"\xc0\xaf\"", "\"\xc0\x80\"", "\"\xe0\x80\xaf\"",
		"\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xf8\x88\x80\x80\x80\"", "\"\x80\"", "\"\xe2\x82\"",
		`"\ud800"`, `"\udc00"`, `"\ud800\ud800"`, `"\udc00\ud800"`, `"a\ud83dz"`, `"\uD83D\u0041"`, `"\u12"`,
		`"\uzzzz"`, `"\x41"`, "\"a\nb\"", "\"a\tb\"", `"`, `'a'`, `"a`, `{"a":1}`, `["a"]`, `[["a"]]`, `1`,
		`-0`, `1.5`, `1e400`, `true`, `01`, `.5`, `NaN`, `Infinity`,
		`"` + strings.Repeat("a", 70_000) + `"`, `"` + strings.Repeat("é", 20_000) + `"`,
	}
}

// BrokenBodies returns request bodies, by description, that must be rejected at little cost.
func BrokenBodies() map[string]string {
	keys := strings.Builder{}
	for i := range 60_000 {
		keys.WriteString(`"k` + strings.Repeat("x", i%3) + `":1,`)
	}
	return map[string]string{
		"a million lists deep":      strings.Repeat("[", 1_000_000),
		"a million objects deep":    strings.Repeat(`{"a":`, 1_000_000),
		"as deep as may be sent":    strings.Repeat(`{"a":`, 40_000),
		"33 deep":                   strings.Repeat("[", 33) + strings.Repeat("]", 33),
		"60,000 fields":             "{" + strings.TrimSuffix(keys.String(), ",") + "}",
		"1,001 fields":              `{` + strings.Repeat(`"a":1,`, 1000) + `"b":1}`,
		"a long number":             `{"a":1` + strings.Repeat("0", 100_000) + `}`,
		"a long name":               `{"` + strings.Repeat("a", 100_000) + `":1}`,
		"blanks":                    strings.Repeat(" ", 200_000),
		"a long list":               `[` + strings.Repeat("1,", 100_000) + `1]`,
		"too long":                  `{"a":"` + strings.Repeat("x", 300_000) + `"}`,
		"quotes that never end":     strings.Repeat(`"`, 100_001),
		"backslashes":               `"` + strings.Repeat(`\`, 100_001),
		"UTF-16":                    "\xff\xfe{\x00}\x00",
		"gzip":                      "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\xab\xae\x05\x00",
		"XML":                       `<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>`,
		"YAML":                      "a: &a [*a,*a]",
		"a form":                    "role_override=owner&verified=true",
		"a deep name in metadata":   `{"metadata":` + strings.Repeat(`{"a":`, 31) + "1" + strings.Repeat("}", 31) + `}`,
		"lone surrogates as fields": `{"\ud800":1,"\udfff":2}`,
	}
}
