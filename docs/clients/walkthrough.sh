#!/usr/bin/env bash
# Walks through Vigil's prediction API with curl, with a patient of its own, who is discharged at the end:
#
#     VIGIL_TOKEN="$(vigil token)" docs/clients/walkthrough.sh http://127.0.0.1:3000
#
# URL and WARD are taken from the environment, too. docs/api.md says what each answer means.
set -euo pipefail

URL=${1:-${URL:-http://127.0.0.1:3000}}
TOKEN=${VIGIL_TOKEN:?expected a token in VIGIL_TOKEN, not as an argument, which others could read; vigil token gives one}
WARD=${WARD:-example}
PATIENT=example-$(date +%s)-$$
NOW=$(date -u +%Y-%m-%dT%H:%M:%SZ)

# Token and patients stay out of the list of processes: curl reads them from files. Lost answers, 429 and 5xx are tried again
# after what Retry-After says; nothing counts twice.
api() { # METHOD PATH [OPTION...], the body on standard input
    local body=() method=$1 path=$2
    shift 2
    if [ "$method" = POST ]; then body=(--header 'Content-Type: application/json' --data-binary @-); fi
    curl --silent --show-error --fail-with-body --max-time 30 --retry 5 --retry-connrefused --request "$method" \
        --config <(printf 'header = "Authorization: Bearer %s"\n' "$TOKEN") "${body[@]}" "$@" "$URL$path"
}
say() { printf '\n== %s\n' "$1"; }

say "Is it ready? (no token needed)"
curl --silent --show-error --fail "$URL/readyz"

say "Say who the patient is, and where"
api POST /v1/patients <<< '{"patients": [{"patient_id": "'"$PATIENT"'", "ward": "'"$WARD"'", "age": 71, "sex": "female"}]}'

# A message_id is made once, and kept with the reading until it is accepted. The last of these is from a probe that slipped off.
reading() { # MESSAGE SIGNAL VALUE UNIT
    printf '{"message_id": "%s-%s", "patient_id": "%s", "signal": "%s", "value": %s, "unit": "%s", "observed_at": "%s"}' \
        "$PATIENT" "$1" "$PATIENT" "$2" "$3" "$4" "$NOW"
}
READINGS='{"observations": ['$(reading 1 heart_rate 131 /min)', '$(reading 2 respiratory_rate 28 /min)', '$(
    reading 3 systolic_bp 94 'mm[Hg]')', '$(reading 4 spo2 9 %)']}'

say "Send readings: what cannot be used is quarantined with a reason"
api POST /v1/observations <<< "$READINGS"

say "Send the same messages again, as after a lost answer: duplicates count once"
api POST /v1/observations <<< "$READINGS"

say "The risk now, the signals behind it, and its range"
api POST /v1/risk <<< '{"patient_id": "'"$PATIENT"'", "include": ["contributions", "range"]}'

say "The risk of several: each has a risk, or the problem that prevents it"
api POST /v1/risks <<< '{"patient_ids": ["'"$PATIENT"'", "nobody"]}'

say "The risk from readings in the request alone; only the prediction is kept"
api POST /v1/risk/observations <<< '{"patient_id": "'"$PATIENT"'", "age": 71, "observations": [
    {"signal": "heart_rate", "value": 131, "observed_at": "'"$NOW"'"}]}'

say "What was said of the patient, and where it is going"
api POST /v1/risk/history <<< '{"patient_id": "'"$PATIENT"'", "hours": 24}'

say "How far each vital sign is from the patient's own usual"
api POST /v1/risk/anomalies <<< '{"patient_id": "'"$PATIENT"'"}'

say "Everything for a teleconsultation"
api POST /v1/visit-summary <<< '{"patient_id": "'"$PATIENT"'"}'

say "The ward, alarms that nobody acted on first"
api GET "/v1/ward/patients?ward=$WARD"

say "What happened in the ward so far, then for five seconds as it happens"
EVENTS=$(api GET "/v1/ward/events?ward=$WARD&seconds=5" --no-buffer --header 'Last-Event-ID: 0')
echo "$EVENTS"

say "The same, from where one was: what came since"
LAST=$(sed -n 's/^id: //p' <<< "$EVENTS" | tail -n 1)
api GET "/v1/ward/events?ward=$WARD&seconds=1" --no-buffer --header "Last-Event-ID: ${LAST:-0}"

say "Alarms of the ward that nobody acted on, newest first"
ALARMS=$(api GET "/v1/alarms?ward=$WARD&status=open")
echo "$ALARMS"

# Its own patient's alone (jq would read it more simply).
ALARM=$(grep -o '{"alarm_id":"[^"]*","patient_id":"'"$PATIENT"'"' <<< "$ALARMS" | head -n 1 | cut -d '"' -f 4 || true)
if [ -n "$ALARM" ]; then
    say "Say that somebody takes care of it"
    api POST /v1/alarms/acknowledge <<< '{"alarm_id": "'"$ALARM"'"}'

    say "Say that it was not right, and why (name no patient in the note)"
    api POST /v1/alarms/override <<< '{"alarm_id": "'"$ALARM"'", "reason": "other", "note": "an example"}'
else
    say "No alarm of this patient: his risk is below the ward's threshold"
fi

say "Discharge the patient: nobody watches him any more, and his alarms end"
api POST /v1/patients <<< '{"patients": [{"patient_id": "'"$PATIENT"'", "ward": "'"$WARD"'", "discharged": true}]}'
echo
