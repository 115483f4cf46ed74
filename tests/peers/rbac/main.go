// Cases of Kubernetes' own RBAC code: random roles, bindings and requests, and what it says of them.
//
//	go run . > ../../data/rbac.json.gz
//
// writes the cases that tests/middleware/authorization/rbac/test_kubernetes.py compares with.
package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"flag"
	"io"
	"math/rand"
	"os"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/component-helpers/auth/rbac/validation"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/clusterroleaggregation"
	rbacvalidation "k8s.io/kubernetes/pkg/registry/rbac/validation"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
)

// World is a set of objects with everything that was asked about it.
type World struct {
	Objects     []any        `json:"objects"`
	Requests    []Request    `json:"requests"`
	Rules       []Rules      `json:"rules"`
	Escalations []Escalation `json:"escalations"`
}

// Request is a question and its answer.
type Request struct {
	User     string   `json:"u"`
	Groups   []string `json:"g"`
	Verb     string   `json:"v"`
	Group    string   `json:"a,omitempty"`
	Resource string   `json:"r,omitempty"`
	Sub      string   `json:"s,omitempty"`
	NS       string   `json:"n,omitempty"`
	Name     string   `json:"o,omitempty"`
	Path     string   `json:"p,omitempty"`
	Allowed  bool     `json:"allowed"`
	Reason   string   `json:"reason"`
}

// Rules is what somebody may do in a namespace.
type Rules struct {
	User        string                           `json:"u"`
	Groups      []string                         `json:"g"`
	NS          string                           `json:"n"`
	Resource    []authorizer.ResourceRuleInfo    `json:"resource"`
	NonResource []authorizer.NonResourceRuleInfo `json:"nonResource"`
	Error       string                           `json:"error"`
}

// Escalation is whether somebody may give rules to others; Message says why not.
type Escalation struct {
	User    string              `json:"u"`
	Groups  []string            `json:"g"`
	NS      string              `json:"n"`
	Wanted  []rbacv1.PolicyRule `json:"wanted"`
	Message string              `json:"message"`
}

// Cover is whether rules cover others, and the parts of these that they do not.
type Cover struct {
	Owned   []rbacv1.PolicyRule `json:"owned"`
	Wanted  []rbacv1.PolicyRule `json:"wanted"`
	Covered bool                `json:"covered"`
	Missing []rbacv1.PolicyRule `json:"missing"`
}

// Aggregation is a set of cluster roles, and what the controller makes of it.
type Aggregation struct {
	Roles []rbacv1.ClusterRole           `json:"roles"`
	Rules map[string][]rbacv1.PolicyRule `json:"rules"`
}

// Cases is everything.
type Cases struct {
	Version      string        `json:"version"`
	Worlds       []World       `json:"worlds"`
	Covers       []Cover       `json:"covers"`
	Aggregations []Aggregation `json:"aggregations"`
	Defaults     []any         `json:"defaults"`
}

var (
	namespaces = []string{"dev", "prod"}
	users      = []string{"u0", "u1", "u2", "g0", "system:serviceaccount:dev:bot", "system:serviceaccount:prod:bot"}
	groups     = []string{"g0", "g1", "g2", "g3", "u0", "system:serviceaccounts:dev"}
	verbs      = []string{"get", "list", "create", "delete", "impersonate"}
	apiGroups  = []string{"", "apps", "example.com"}
	resources  = []string{"pods", "deployments", "widgets"}
	subs       = []string{"log", "scale", "*", "a/b"}
	patterns   = []string{"pods", "deployments", "widgets", "pods/log", "pods/*", "*/log", "*/scale", "*/*", "*/a/b", "deployments/scale", "pods/a/b"}
	names      = []string{"a", "b", "*"}
	urls       = []string{"/healthz", "/healthz/*", "/healthz*", "/api/**", "/api", "/a*b", "/api/*/x", "/", "/version/"}
	paths      = []string{"/healthz", "/healthz/", "/healthz/a", "/healthzx", "/api", "/api/", "/api/v1/x", "/a*b", "/aXb", "/api/*/x", "/", "/version", "/version/", ""}
)

type maker struct{ *rand.Rand }

func (m maker) one(from []string) string { return from[m.Intn(len(from))] }

func (m maker) some(from []string, most int, wild float64) []string {
	found := []string{}
	for range 1 + m.Intn(most) {
		found = append(found, m.one(from))
	}
	if m.Float64() < wild {
		found = append(found, "*")
	}
	return found
}

func (m maker) rule(namespaced bool) rbacv1.PolicyRule {
	if !namespaced && m.Float64() < 0.3 {
		return rbacv1.PolicyRule{Verbs: m.some(verbs, 2, 0.2), NonResourceURLs: m.some(urls, 2, 0.05)}
	}
	rule := rbacv1.PolicyRule{
		Verbs: m.some(verbs, 3, 0.15), APIGroups: m.some(apiGroups, 2, 0.15), Resources: m.some(patterns, 3, 0.07),
	}
	if m.Float64() < 0.25 {
		rule.ResourceNames = m.some(names, 2, 0)
		if m.Float64() < 0.1 {
			rule.ResourceNames = append(rule.ResourceNames, "")
		}
	}
	return rule
}

func (m maker) rules(namespaced bool, most int) []rbacv1.PolicyRule {
	rules := []rbacv1.PolicyRule{}
	for range m.Intn(most + 1) {
		rules = append(rules, m.rule(namespaced))
	}
	return rules
}

func (m maker) subjects(namespace string) []rbacv1.Subject {
	subjects := []rbacv1.Subject{}
	for range m.Intn(4) {
		switch m.Intn(4) {
		case 0:
			subjects = append(subjects, rbacv1.Subject{Kind: "User", APIGroup: rbacv1.GroupName, Name: m.one(users)})
		case 1:
			subject := rbacv1.Subject{Kind: "ServiceAccount", Name: "bot", Namespace: m.one(namespaces)}
			if namespace != "" && m.Intn(2) == 0 {
				subject.Namespace = ""
			}
			subjects = append(subjects, subject)
		default:
			subjects = append(subjects, rbacv1.Subject{Kind: "Group", APIGroup: rbacv1.GroupName, Name: m.one(groups)})
		}
	}
	return subjects
}

func (m maker) groups() []string {
	found := []string{}
	for range m.Intn(4) {
		found = append(found, m.one(groups))
	}
	return found
}

// store gives objects in their order, and Kubernetes' own error where one is missing.
type store struct {
	roles               []*rbacv1.Role
	clusterRoles        []*rbacv1.ClusterRole
	bindings            []*rbacv1.RoleBinding
	clusterRoleBindings []*rbacv1.ClusterRoleBinding
}

func (s *store) GetRole(_ context.Context, namespace, name string) (*rbacv1.Role, error) {
	for _, role := range s.roles {
		if role.Namespace == namespace && role.Name == name {
			return role, nil
		}
	}
	return nil, apierrors.NewNotFound(rbacv1.Resource("role"), name)
}

func (s *store) GetClusterRole(_ context.Context, name string) (*rbacv1.ClusterRole, error) {
	for _, role := range s.clusterRoles {
		if role.Name == name {
			return role, nil
		}
	}
	return nil, apierrors.NewNotFound(rbacv1.Resource("clusterrole"), name)
}

func (s *store) ListRoleBindings(_ context.Context, namespace string) ([]*rbacv1.RoleBinding, error) {
	found := []*rbacv1.RoleBinding{}
	for _, binding := range s.bindings {
		if binding.Namespace == namespace {
			found = append(found, binding)
		}
	}
	return found, nil
}

func (s *store) ListClusterRoleBindings(context.Context) ([]*rbacv1.ClusterRoleBinding, error) {
	return s.clusterRoleBindings, nil
}

func typed(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: kind}
}

func number(prefix string, index int) string { return prefix + string(rune('a'+index)) }

func (m maker) store() (*store, []any) {
	s, objects := &store{}, []any{}
	for index := range 4 {
		role := &rbacv1.ClusterRole{TypeMeta: typed("ClusterRole"), Rules: m.rules(false, 3)}
		role.Name = number("cluster:", index)
		s.clusterRoles, objects = append(s.clusterRoles, role), append(objects, role)
	}
	for index := range 4 {
		role := &rbacv1.Role{TypeMeta: typed("Role"), Rules: m.rules(true, 3)}
		role.Name, role.Namespace = number("role-", index/2), namespaces[index%2]
		s.roles, objects = append(s.roles, role), append(objects, role)
	}
	for index := range 3 {
		binding := &rbacv1.ClusterRoleBinding{TypeMeta: typed("ClusterRoleBinding"), Subjects: m.subjects("")}
		binding.Name = number("everywhere-", index)
		// One in six is about a role that there is not.
		binding.RoleRef = rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: number("cluster:", m.Intn(9)%5)}
		s.clusterRoleBindings, objects = append(s.clusterRoleBindings, binding), append(objects, binding)
	}
	for index := range 8 {
		namespace := namespaces[index%2]
		binding := &rbacv1.RoleBinding{TypeMeta: typed("RoleBinding"), Subjects: m.subjects(namespace)}
		binding.Name, binding.Namespace = number("binding-", index), namespace
		binding.RoleRef = rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: number("cluster:", m.Intn(9)%5)}
		if m.Intn(2) == 0 {
			binding.RoleRef.Kind, binding.RoleRef.Name = "Role", number("role-", m.Intn(5)%3)
		}
		s.bindings, objects = append(s.bindings, binding), append(objects, binding)
	}
	return s, objects
}

func (m maker) request() Request {
	request := Request{User: m.one(users), Groups: m.groups(), Verb: m.one(verbs)}
	if m.Float64() < 0.25 {
		request.Path = m.one(paths)
		return request
	}
	request.Group, request.Resource = m.one(apiGroups), m.one(resources)
	if m.Float64() < 0.4 {
		request.Sub = m.one(subs)
	}
	if m.Float64() < 0.8 {
		request.NS = m.one(namespaces)
	}
	if m.Float64() < 0.6 {
		request.Name = m.one(names)
	}
	return request
}

// like makes a request that a rule allows, or would but for one thing.
func (m maker) like(request Request, rule rbacv1.PolicyRule) Request {
	made := Request{User: request.User, Groups: request.Groups, NS: request.NS, Verb: m.plain(rule.Verbs, verbs)}
	if len(rule.NonResourceURLs) > 0 {
		made.NS = ""
		made.Path = strings.ReplaceAll(m.one(rule.NonResourceURLs), "*", m.one([]string{"", "z", "*"}))
	} else {
		made.Group = m.plain(rule.APIGroups, apiGroups)
		made.Resource, made.Sub, _ = strings.Cut(m.plain(rule.Resources, patterns), "/")
		if made.Resource == "*" {
			made.Resource = m.one(resources)
		}
		made.Name = request.Name
		if len(rule.ResourceNames) > 0 {
			made.Name = m.one(rule.ResourceNames)
		}
	}
	switch m.Intn(12) {
	case 0:
		made.Verb = m.one(verbs)
	case 1:
		made.Name = m.one(names)
	case 2:
		made.Sub = m.one(subs)
	case 3:
		made.NS = m.one(namespaces)
	}
	if made.Path != "" {
		made.Name, made.Sub, made.NS = "", "", ""
	}
	return made
}

// plain is one of some texts, or any where they hold "*".
func (m maker) plain(from, all []string) string {
	if found := m.one(from); found != "*" {
		return found
	}
	return m.one(all)
}

func (r Request) who() user.Info { return &user.DefaultInfo{Name: r.User, Groups: r.Groups} }

func (m maker) world(requests int) World {
	ctx := context.Background()
	s, objects := m.store()
	judge := rbac.New(s, s, s, s)
	resolver := rbacvalidation.NewDefaultRuleResolver(s, s, s, s)
	world := World{Objects: objects}
	for range requests {
		request := m.request()
		if owned, _ := resolver.RulesFor(ctx, request.who(), request.NS); len(owned) > 0 && m.Intn(5) > 0 {
			request = m.like(request, owned[m.Intn(len(owned))])
		}
		decision, reason, err := judge.Authorize(ctx, authorizer.AttributesRecord{
			User: request.who(), Verb: request.Verb, APIGroup: request.Group, Resource: request.Resource,
			Subresource: request.Sub, Namespace: request.NS, Name: request.Name, Path: request.Path,
			ResourceRequest: request.Resource != "",
		})
		if err != nil {
			panic(err)
		}
		request.Allowed, request.Reason = decision == authorizer.DecisionAllow, reason
		world.Requests = append(world.Requests, request)
	}
	for range 6 {
		asked := m.request()
		rules := Rules{User: asked.User, Groups: asked.Groups, NS: m.one(namespaces)}
		var err error
		rules.Resource, rules.NonResource, _, err = judge.RulesFor(ctx, asked.who(), rules.NS)
		if err != nil {
			rules.Error = err.Error()
		}
		world.Rules = append(world.Rules, rules)
	}
	for range 8 {
		asked := m.request()
		wanted := []rbacv1.PolicyRule{m.rule(false)}
		if owned, _ := resolver.RulesFor(ctx, asked.who(), asked.NS); len(owned) > 0 && m.Intn(3) > 0 {
			wanted = []rbacv1.PolicyRule{m.part(owned[0]), m.part(owned[m.Intn(len(owned))])}
		}
		within := genericapirequest.WithNamespace(genericapirequest.WithUser(ctx, asked.who()), asked.NS)
		message := ""
		if err := rbacvalidation.ConfirmNoEscalation(within, resolver, wanted); err != nil {
			message = err.Error()
		}
		world.Escalations = append(world.Escalations, Escalation{asked.User, asked.Groups, asked.NS, wanted, message})
	}
	return world
}

func (m maker) cover() Cover {
	cover := Cover{Owned: m.rules(false, 5), Wanted: []rbacv1.PolicyRule{m.rule(false)}}
	for range m.Intn(3) {
		if len(cover.Owned) > 0 && m.Intn(3) > 0 {
			cover.Wanted = []rbacv1.PolicyRule{m.part(cover.Owned[m.Intn(len(cover.Owned))])}
		}
	}
	cover.Covered, cover.Missing = validation.Covers(cover.Owned, cover.Wanted)
	return cover
}

// part is a rule with one of each thing that another one has.
func (m maker) part(rule rbacv1.PolicyRule) rbacv1.PolicyRule {
	part := rbacv1.PolicyRule{Verbs: []string{m.one(rule.Verbs)}}
	if len(rule.NonResourceURLs) > 0 {
		part.NonResourceURLs = []string{m.one(rule.NonResourceURLs) + m.one([]string{"", "x", "*"})}
		return part
	}
	part.APIGroups, part.Resources = []string{m.one(rule.APIGroups)}, []string{m.one(rule.Resources)}
	if sub, found := strings.CutPrefix(part.Resources[0], "*/"); found {
		part.Resources[0] = m.one(resources) + "/" + sub
	}
	if len(rule.ResourceNames) > 0 || m.Intn(3) == 0 {
		part.ResourceNames = []string{m.one(append(rule.ResourceNames, "a"))}
	}
	return part
}

// aggregation lets the real controller work on roles of three levels until it has nothing to do any more.
func (m maker) aggregation() Aggregation {
	found := Aggregation{Rules: map[string][]rbacv1.PolicyRule{}}
	levels := []string{"plain", "middle", "upper"}
	clientset := fake.NewClientset()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for level, prefix := range levels {
		for index := range 4 - level {
			role := rbacv1.ClusterRole{TypeMeta: typed("ClusterRole"), ObjectMeta: metav1.ObjectMeta{
				Name: number(prefix, index), Labels: map[string]string{"level": prefix, "team": m.one([]string{"x", "y"})},
			}}
			if m.Intn(3) == 0 {
				role.Labels["extra"] = ""
			}
			if level == 0 {
				role.Rules = m.rules(false, 2)
			} else {
				role.AggregationRule = &rbacv1.AggregationRule{}
				for range 1 + m.Intn(2) {
					role.AggregationRule.ClusterRoleSelectors = append(
						role.AggregationRule.ClusterRoleSelectors, m.selector(levels[:level]))
				}
			}
			found.Roles = append(found.Roles, role)
			if _, err := clientset.RbacV1().ClusterRoles().Create(ctx, role.DeepCopy(), metav1.CreateOptions{}); err != nil {
				panic(err)
			}
		}
	}
	factory := informers.NewSharedInformerFactory(clientset, 0)
	controller := clusterroleaggregation.NewClusterRoleAggregation(factory.Rbac().V1().ClusterRoles(), clientset.RbacV1())
	factory.Start(ctx.Done())
	go controller.Run(ctx, 1)
	for quiet := 0; quiet < 5; {
		time.Sleep(100 * time.Millisecond)
		list, err := clientset.RbacV1().ClusterRoles().List(ctx, metav1.ListOptions{})
		if err != nil {
			panic(err)
		}
		rules := map[string][]rbacv1.PolicyRule{}
		for _, role := range list.Items {
			rules[role.Name] = role.Rules
		}
		if equality.Semantic.DeepEqual(rules, found.Rules) {
			quiet++
		} else {
			quiet, found.Rules = 0, rules
		}
	}
	return found
}

func (m maker) selector(levels []string) metav1.LabelSelector {
	selector := metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: "level", Operator: metav1.LabelSelectorOpIn, Values: levels},
	}}
	switch m.Intn(5) {
	case 0:
		selector.MatchLabels = map[string]string{"team": "x"}
	case 1:
		selector.MatchExpressions = append(selector.MatchExpressions,
			metav1.LabelSelectorRequirement{Key: "extra", Operator: metav1.LabelSelectorOpExists})
	case 2:
		selector.MatchExpressions = append(selector.MatchExpressions,
			metav1.LabelSelectorRequirement{Key: "extra", Operator: metav1.LabelSelectorOpDoesNotExist})
	case 3:
		selector.MatchExpressions = append(selector.MatchExpressions,
			metav1.LabelSelectorRequirement{Key: "extra", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"", "z"}})
	}
	return selector
}

func defaults() []any {
	found := []any{}
	for _, role := range bootstrappolicy.ClusterRoles() {
		role.TypeMeta = typed("ClusterRole")
		found = append(found, role)
	}
	for _, binding := range bootstrappolicy.ClusterRoleBindings() {
		binding.TypeMeta = typed("ClusterRoleBinding")
		found = append(found, binding)
	}
	for _, role := range bootstrappolicy.NamespaceRoles()[metav1.NamespaceSystem] {
		role.TypeMeta = typed("Role")
		found = append(found, role)
	}
	return found
}

func main() {
	seed := flag.Int64("seed", 1, "of the random numbers")
	worlds := flag.Int("worlds", 50, "sets of objects")
	requests := flag.Int("requests", 200, "questions about each")
	covers := flag.Int("covers", 1500, "comparisons of rules")
	aggregations := flag.Int("aggregations", 25, "sets of aggregated roles")
	flag.Parse()
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	m := maker{rand.New(rand.NewSource(*seed))}
	cases := Cases{Version: "k8s.io/kubernetes v1.37.2", Defaults: defaults()}
	for range *worlds {
		cases.Worlds = append(cases.Worlds, m.world(*requests))
	}
	for range *covers {
		cases.Covers = append(cases.Covers, m.cover())
	}
	for range *aggregations {
		cases.Aggregations = append(cases.Aggregations, m.aggregation())
	}
	packed, err := gzip.NewWriterLevel(os.Stdout, gzip.BestCompression)
	if err != nil {
		panic(err)
	}
	if err := json.NewEncoder(packed).Encode(cases); err != nil {
		panic(err)
	}
	if err := packed.Close(); err != nil {
		panic(err)
	}
}
