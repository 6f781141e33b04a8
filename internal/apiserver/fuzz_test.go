// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"testing"

	v1 "weft/api/v1"
)

// FuzzDocuments: whatever is sent to apply, each document is read or named in an error that has a code and a remedy.
func FuzzDocuments(f *testing.F) {
	const rt = `{"apiVersion":"weft/v1","kind":"RouteTable","metadata":{"tenant":"red","name":"rt"},"spec":{"vpc":"main","subnets":["a"],"routes":[{"to":"::/0","via":"port/fw"}]}}`
	f.Add([]byte(`{"documents":[` + rt + `]}`))
	f.Add([]byte(`{"documents":[` + rt + `,{"kind":"Port"},null,7,[]]}`))
	f.Add([]byte(`{"documents":null}{}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		docs, err := decodeDocuments(body)
		if err != nil {
			for _, e := range errorsOf(err) {
				if e.Code == "" || e.Code == v1.CodeInternal || e.Fix == "" {
					t.Errorf("%q: error %+v", body, e)
				}
			}
			return
		}
		for _, d := range docs {
			d.Default()
			for _, e := range d.Validate() {
				if e.Code == "" || e.Message == "" || e.Fix == "" {
					t.Errorf("%q: error %+v", body, e)
				}
			}
			if fmt.Sprint(scopesOf(docs)) == "" || v1.ID(d) == "" {
				t.Errorf("%q: a document without a name or a scope", body)
			}
		}
	})
}
