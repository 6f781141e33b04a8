// SPDX-License-Identifier: Apache-2.0

package accesscmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/spf13/cobra"
	"golang.org/x/oauth2"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/term"
)

// loginWithin bounds how long a person may take.
const loginWithin = 10 * time.Minute

func newLoginCommand(env *term.Env) *cobra.Command {
	var issuer, id, contextName string
	cmd := &cobra.Command{
		Use: "login", Short: "Log in at an identity provider, and make a context with what it says", Args: cobra.NoArgs,
		Long: `Log in at the identity provider that the server believes (weft server --oidc-issuer): open the address that is printed, on any machine, and
type the code (RFC 8628). The context that is made has the server of the current one, or of --context, and is good until the provider's
token ends.`,
		Example: `  weft login --issuer https://login.example.org --client-id weft
  weft login --issuer https://login.example.org --client-id weft --as anna
  weft whoami --context anna`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if issuer == "" || id == "" {
				return term.Usage(errors.New("name the provider (--issuer) and this system's name there (--client-id); the server's operator knows both"))
			}
			target, err := env.Target()
			if err != nil {
				return err
			}
			if target.Server == "" {
				return term.Usage(errors.New("there is no context with a server to log in for: weft context list"))
			}
			ctx, stop := term.WithSignals(cmd.Context())
			defer stop()
			token, err := device(ctx, env, issuer, id)
			if err != nil {
				return &v1.Error{Status: http.StatusUnauthorized, Code: v1.CodeUnauthorized, Message: "log in: " + err.Error(), Fix: "try again; 'weft token create' makes tokens without a provider"}
			}
			made := client.Context{Name: contextName, Server: target.Server, CA: target.CA, CAFile: target.CAFile, Token: token, Tenant: cmp.Or(env.Tenant, target.Tenant)}
			c, err := made.Client()
			if err != nil {
				return err
			}
			w, err := c.Whoami(ctx) // before anything is written: does the server believe it?
			if err != nil {
				return err
			}
			made.Tenant = cmp.Or(w.Tenant, made.Tenant)
			fmt.Fprintf(env.Err, "logged in as %s: %s%s, %s\n", w.Name, cmp.Or(w.Role, "no role"), ofTenant(w.Tenant), ends(w.Expires))
			return save(env, made)
		},
	}
	f := cmd.Flags()
	f.StringVar(&issuer, "issuer", "", "URL of the identity provider")
	f.StringVar(&id, "client-id", "weft", "this system's name at the provider")
	f.StringVar(&contextName, "as", "login", "name of the context to make")
	return cmd
}

// device gets an ID token by the device flow.
func device(ctx context.Context, env *term.Env, issuer, id string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, loginWithin)
	defer cancel()
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return "", err
	}
	config := oauth2.Config{ClientID: id, Endpoint: provider.Endpoint(), Scopes: []string{oidc.ScopeOpenID, "profile", "email", "groups"}}
	if config.Endpoint.DeviceAuthURL == "" {
		return "", fmt.Errorf("%s has no device flow", issuer)
	}
	answer, err := config.DeviceAuth(ctx)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(env.Err, "open %s and type %s\n", cmp.Or(answer.VerificationURIComplete, answer.VerificationURI), answer.UserCode)
	token, err := config.DeviceAccessToken(ctx, answer)
	if err != nil {
		return "", err
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return "", errors.New("the provider gave no ID token; its client needs the scope openid")
	}
	return raw, nil
}
