{{- define "webhook.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* What both webhooks of the configuration share. */}}
{{- define "webhook.call" -}}
clientConfig:
  service:
    name: drainproxy-webhook
    namespace: {{ .Release.Namespace | quote }}
    path: /mutate
    port: 443
admissionReviewVersions: [v1]
sideEffects: None
failurePolicy: {{ .Values.failurePolicy }}
timeoutSeconds: 5
# Other injectors may come after: asked again, it changes nothing.
reinvocationPolicy: IfNeeded
rules:
- apiGroups: [""]
  apiVersions: [v1]
  operations: [CREATE]
  resources: [pods]
  scope: Namespaced
{{- end }}

{{- /* Which namespaces may be asked about at all. */}}
{{- define "webhook.namespaces" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values:
  - {{ .Release.Namespace | quote }}
  {{- range .Values.namespaceSelector.exclude }}
  - {{ . | quote }}
  {{- end }}
{{- with .Values.namespaceSelector.matchExpressions }}
{{ toYaml . }}
{{- end }}
{{- end }}
