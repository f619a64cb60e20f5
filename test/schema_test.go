//go:build linux

package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// outputSchema is docs/output.schema.json, without the licence to add fields.
var outputSchema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	f, err := os.Open(filepath.Join("..", "docs", "output.schema.json"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		return nil, err
	}
	defs, _ := doc.(map[string]any)["$defs"].(map[string]any)
	for _, def := range defs {
		def.(map[string]any)["additionalProperties"] = false
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("output.json", doc); err != nil {
		return nil, err
	}
	return c.Compile("output.json")
})

// fitsSchema says what is wrong with an object that the program has printed. It may be called from any goroutine.
func fitsSchema(object string) error {
	schema, err := outputSchema()
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(object))
	if err != nil {
		return err
	}
	return schema.Validate(v)
}
