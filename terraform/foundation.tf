# What must be there before there can be images and keys, and so before any service:
#   terraform apply -target=terraform_data.foundation
resource "terraform_data" "foundation" {
  depends_on = [
    google_artifact_registry_repository_iam_member.deployer_pushes,
    google_firestore_field.ttl,
    google_firestore_field.unindexed,
    google_firestore_index.composite,
    google_project_iam_member.deployer_makes_indexes,
    google_project_iam_member.deployer_reads_scans,
    google_project_iam_member.deployer_releases,
    google_project_iam_member.deployer_writes_logs,
    google_secret_manager_secret.secret,
    google_secret_manager_secret_iam_member.deployer_tries,
    google_secret_manager_secret_version.configuration,
    google_service_account_iam_member.deployer_acts_as,
    google_storage_bucket_iam_member.bake_writes_snapshots,
    google_storage_bucket_iam_member.deployer_builds,
    google_storage_bucket_iam_member.deployer_keeps_state,
  ]
}
