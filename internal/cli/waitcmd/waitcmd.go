// SPDX-License-Identifier: Apache-2.0

// Package waitcmd waits until resources are as somebody wants them. It follows them by watch, so it asks once and misses nothing.
package waitcmd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/ref"
	"weft/internal/cli/term"
)

// again is the pause before a server that went away is asked once more.
const again = 300 * time.Millisecond

// New returns the command; complete completes kinds and names.
func New(env *term.Env, complete cobra.CompletionFunc) *cobra.Command {
	var what string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait KIND/NAME... --for CONDITION",
		Short: "Wait until resources are as wanted, or gone",
		Long: `Wait until resources are as wanted:

  condition=Ready     a node is ready; a port is attached; in effect on every node that it concerns
  condition=Applied   in effect on every node that it concerns
  create, delete      it is there; it is not there
  field=PATH=VALUE    a field has a value: field=status.node=host-1
  field=PATH          a field has any value: field=status.node

Without a name, all of the kind that are there. It prints a line for each as it comes true, outlives restarts of the server, and
ends with 6 where --timeout passes first.`,
		Example: `  weft wait port/red/web-1 --for condition=Ready
  weft wait node --for condition=Ready --timeout 5m
  weft wait port red/web-1 --for field=status.node=host-2
  weft wait vpc red/main --for delete`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			cond, err := parse(what)
			if err != nil {
				return err
			}
			refs, err := ref.Parse(args)
			if err != nil {
				return err
			}
			c, target, err := env.Client()
			if err != nil {
				return err
			}
			ctx, stop := term.WithSignals(cmd.Context())
			defer stop()
			ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTimeout)
			defer cancel()
			return waitAll(ctx, env, c, refs, target.Tenant, cond, timeout)
		},
	}
	cmd.Flags().StringVar(&what, "for", "", "what to wait for: condition=Ready, condition=Applied, create, delete, field=PATH, field=PATH=VALUE")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait")
	_ = cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions([]string{"condition=Ready", "condition=Applied", "create", "delete", "field="}, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace)) // fails only where the flag does not exist
	return cmd
}

var errTimeout = errors.New("timeout")

// waitAll waits for the resources of each reference, one reference after the other: those that come later are true by then or not.
func waitAll(ctx context.Context, env *term.Env, c *client.Client, refs []ref.Ref, def string, cond *condition, timeout time.Duration) error {
	for _, r := range refs {
		tenant := ""
		if r.Name != "" || r.Tenant != "" || def != "" {
			var err error
			if tenant, err = r.In(def); err != nil {
				return err
			}
		}
		w := &waiting{env: env, client: c, ref: r, tenant: tenant, cond: cond, open: make(map[string]string), born: make(map[string]string)}
		err := w.run(ctx)
		switch {
		case w.over():
		case errors.Is(context.Cause(ctx), errTimeout):
			return w.late(timeout)
		case ctx.Err() != nil:
			return term.Code(term.ExitFailure) // interrupted
		case err != nil:
			return err
		}
	}
	return nil
}

// waiting follows the resources of one reference.
type waiting struct {
	env    *term.Env
	client *client.Client
	ref    ref.Ref
	tenant string
	cond   *condition
	open   map[string]string // for whom it is not true yet, with how it is instead
	born   map[string]string // their identities at first: what has another is not what was there
	listed bool
	told   time.Time
}

// run lists, then follows; where the server forgot the version, or was away, it lists again.
func (w *waiting) run(ctx context.Context) error {
	for {
		version, err := w.list(ctx)
		if err == nil && !w.over() {
			w.tell(true)
			err = w.follow(ctx, version)
		}
		var e *v1.Error
		switch {
		case w.over() || ctx.Err() != nil:
			return nil
		case err == nil: // the stream ended
		case w.listed && errors.As(err, &e) && (e.Code == v1.CodeExpired || e.Code == v1.CodeUnavailable):
		default:
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// over reports whether it is true for all.
func (w *waiting) over() bool { return w.listed && len(w.open) == 0 }

// list looks at what there is.
func (w *waiting) list(ctx context.Context) (version string, err error) {
	objects, version, err := w.client.List(ctx, w.ref.Kind.Kind, w.tenant)
	if err != nil {
		return "", err
	}
	there := make(map[string]v1.Object)
	for _, o := range objects {
		if w.ref.Name == "" || w.ref.Name == o.Meta().Name {
			there[v1.ID(o)] = o
		}
	}
	if !w.listed {
		if err := w.begin(there); err != nil {
			return "", err
		}
		w.listed = true
	}
	for id := range maps.Clone(w.open) {
		if err := w.look(id, there[id]); err != nil {
			return "", err
		}
	}
	return version, nil
}

// begin decides for whom it waits.
func (w *waiting) begin(there map[string]v1.Object) error {
	for id, o := range there {
		w.open[id], w.born[id] = "", o.Meta().UID
	}
	if len(there) > 0 || w.cond.absent && w.ref.Name == "" {
		return nil
	}
	if w.ref.Name == "" {
		return &v1.Error{Code: v1.CodeNotFound, Message: "there is no " + w.ref.Kind.Singular + " to wait for", Fix: "name one, or wait for it with --for create"}
	}
	o := w.ref.Kind.New()
	o.Meta().Tenant, o.Meta().Name = w.tenant, w.ref.Name
	w.open[v1.ID(o)] = ""
	return nil
}

// follow looks at each change, until it is true for all.
func (w *waiting) follow(ctx context.Context, version string) error {
	for e, err := range w.client.Watch(ctx, w.ref.Kind.Kind, w.tenant, version) {
		if err != nil {
			return err
		}
		if e.Object == nil {
			continue
		}
		id, o := v1.ID(e.Object), e.Object
		if _, waits := w.open[id]; !waits {
			continue
		}
		if e.Type == v1.EventDeleted {
			o = nil
		}
		if err := w.look(id, o); err != nil || len(w.open) == 0 {
			return err
		}
		w.tell(false)
	}
	return nil
}

// look notes how a resource is; nil is one that is not there.
func (w *waiting) look(id string, o v1.Object) error {
	if o != nil && w.cond.absent && o.Meta().UID != w.born[id] {
		o = nil
	}
	if o == nil && !w.cond.absent && !w.cond.present {
		return &v1.Error{Code: v1.CodeNotFound, Object: id, Message: "it is not there, or was deleted meanwhile", Fix: "'weft get " + w.ref.Kind.Plural + " -A' lists those that are; --for create waits for one"}
	}
	state, ok, err := w.cond.holds(o)
	if err != nil {
		return err
	}
	if !ok {
		w.open[id] = state
		return nil
	}
	delete(w.open, id)
	_, err = fmt.Fprintf(w.env.Out, "%s %s\n", id, w.cond.done)
	return err
}

// tell says what it waits for, at first and then every few seconds.
func (w *waiting) tell(first bool) {
	if !first && time.Since(w.told) < 3*time.Second {
		return
	}
	w.told = time.Now()
	fmt.Fprintln(w.env.Err, "waiting for", w.rest())
}

// rest names those for whom it is not true yet, three at most.
func (w *waiting) rest() string {
	var out []string
	for i, id := range slices.Sorted(maps.Keys(w.open)) {
		if i == 3 {
			out = append(out, fmt.Sprintf("%d more", len(w.open)-3))
			break
		}
		if state := w.open[id]; state != "" {
			id += " (" + state + ")"
		}
		out = append(out, id)
	}
	return strings.Join(out, ", ")
}

func (w *waiting) late(timeout time.Duration) error {
	rest := w.rest()
	if rest == "" {
		rest = "an answer of the server"
	}
	return &v1.Error{
		Code: v1.CodeTimeout, Message: fmt.Sprintf("waited %s for %s of %s", timeout, w.cond.text, rest),
		Fix: "look at 'weft describe' and 'weft status', or give it more --timeout",
	}
}
