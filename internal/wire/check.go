package wire

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxPart is the most bytes of a manifest in one [Part].
const MaxPart = 48 << 10

// MaxName is the longest name of a content, in bytes.
const MaxName = 255

// ErrName is a name that no content may have.
var ErrName = errors.New("not a valid name")

// CheckName says whether a content may have a name: 1 to 255 bytes of UTF-8 without control characters and separators,
// and neither "." nor "..".
func CheckName(name string) error {
	why := ""
	switch {
	case name == "" || len(name) > MaxName:
		why = "it must have 1 to 255 bytes"
	case !utf8.ValidString(name):
		why = "it is not UTF-8"
	case strings.ContainsAny(name, `/\`):
		why = "it contains a separator"
	case name == "." || name == "..":
		why = "it means a folder"
	case strings.ContainsFunc(name, unicode.IsControl):
		why = "it contains a control character"
	default:
		return nil
	}
	return fmt.Errorf("%w: %s", ErrName, why)
}
