package export

import (
	"reflect"
	"strings"
	"unicode"
)

// Fields returns the exported fields of a struct of counters as a map for JSON, with their names
// in snake_case; structs and slices within it are converted in the same way. It serves accounts
// that have no report type of their own: a new counter is reported without further code.
func Fields(v any) any { return fields(reflect.ValueOf(v)) }

func fields(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Struct:
		if _, ok := v.Interface().(interface{ MarshalText() ([]byte, error) }); ok {
			return v.Interface() // an address, a time
		}
		m := map[string]any{}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				m[snake(f.Name)] = fields(v.Field(i))
			}
		}
		return m
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = fields(v.Index(i))
		}
		return list
	}
	return v.Interface()
}

// snake converts HeldExpired to held_expired, and ICMPUnowned to icmp_unowned.
func snake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) &&
			unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
