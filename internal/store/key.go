// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	v1 "weft/api/v1"
)

// Layout of etcd:
//
//	/weft/o/<kinds>/<tenant>/<name>   a resource as JSON; the tenant of a cluster kind is empty
//	/weft/f/<scope>                   fence: touched by every write in the scope (a tenant's name; empty: the cluster;
//	                                  node/<name>: what ports say about the node); its value is the id of that write
//	/weft/c/<counter>                 the last number that a counter gave, decimal
//	/weft/r/<folder>/<name>           a record: bytes of a function of the server, which are no resource and no user's to write
const prefix = "/weft/"

func objectKey(kind v1.Kind, tenant, name string) string { return listKey(kind) + tenant + "/" + name }

// listKey is what all keys of a kind begin with.
func listKey(kind v1.Kind) string {
	info, ok := v1.KindByWord(string(kind))
	if !ok {
		panic("store: unknown kind " + string(kind))
	}
	return prefix + "o/" + info.Plural + "/"
}

// NodeScope is the scope of what ports of all tenants say about a node. Who makes a port refer to a node writes in it, and
// so does who deletes the node: neither can miss the other.
func NodeScope(node string) string { return "node/" + node }

func fenceKey(scope string) string     { return prefix + "f/" + scope }
func counterKey(counter string) string { return prefix + "c/" + counter }
func recordKey(name string) string     { return prefix + "r/" + name }

// entry is one key of etcd as the image has it.
type entry struct {
	key      string
	revision int64     // of the last write of the key
	object   v1.Object // of resources
	number   uint64    // of counters
	record   []byte    // of records and fences
}

func less(a, b entry) bool { return a.key < b.key }

// decode reads one key. An error concerns this key alone.
func decode(key string, value []byte, revision int64) (entry, error) {
	e := entry{key: key, revision: revision}
	rest := strings.TrimPrefix(key, prefix)
	switch {
	case strings.HasPrefix(rest, "o/"):
		parts := strings.Split(rest, "/")
		if len(parts) != 4 {
			return e, fmt.Errorf("key %s is no resource's", key)
		}
		info, ok := v1.KindByWord(parts[1])
		if !ok {
			return e, fmt.Errorf("key %s is of an unknown kind", key)
		}
		e.object = info.New()
		if err := json.Unmarshal(value, e.object); err != nil {
			return e, fmt.Errorf("resource at %s: %w", key, err)
		}
		e.object.Meta().ResourceVersion = strconv.FormatInt(revision, 10)
	case strings.HasPrefix(rest, "c/"):
		n, err := strconv.ParseUint(string(value), 10, 64)
		if err != nil {
			return e, fmt.Errorf("counter at %s: %w", key, err)
		}
		e.number = n
	case strings.HasPrefix(rest, "r/"), strings.HasPrefix(rest, "f/"):
		e.record = value
	}
	return e, nil
}

// encode writes a resource without the version that its key will have.
func encode(o v1.Object) (string, error) {
	m := o.Meta()
	version := m.ResourceVersion
	m.ResourceVersion = ""
	defer func() { m.ResourceVersion = version }()
	b, err := json.Marshal(o)
	if err != nil {
		return "", fmt.Errorf("encode %s %s/%s: %w", o.GetKind(), m.Tenant, m.Name, err)
	}
	return string(b), nil
}
