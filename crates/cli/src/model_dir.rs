//! Finds model folders by name or by path.
//!
//! A name is looked up in every root's `models/` folder and directly in the root: the folder that
//! `UPRES_MODEL_DIR` names first, then the current directory, the executable's and its parents.

use std::path::{Path, PathBuf};

/// The model that comes with the program.
pub const BUNDLED: &str = "upres-tiny";

/// A name or path that leads to no model folder.
#[derive(Debug, thiserror::Error)]
pub enum ModelDirError {
    #[error("{0} is not a model folder: it has no unet/config.json")]
    NotAModel(PathBuf),
    #[error("there is no model {name:?}: give its folder, or one of these: {known}")]
    Unknown { name: String, known: String },
    #[error("there is no model {name:?} and no other: give a model folder with --model DIR")]
    NoModels { name: String },
}

/// Where to look for models.
#[derive(Debug, Clone)]
pub struct Roots {
    /// `UPRES_MODEL_DIR`: a model folder, or a folder of model folders.
    configured: Option<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Roots {
    /// The configured folder, the current directory, the executable's folder and its parents.
    pub fn new(configured: Option<PathBuf>) -> Self {
        let mut folders = Vec::new();
        folders.extend(configured.clone());
        folders.extend(std::env::current_dir().ok());
        if let Ok(program) = std::env::current_exe() {
            folders.extend(program.ancestors().skip(1).map(Path::to_owned));
        }
        Self {
            configured,
            folders,
        }
    }

    /// The folder of the model asked for, or the configured one, or the bundled one.
    ///
    /// # Errors
    /// [`ModelDirError`], with the names that would have been found.
    pub fn find(&self, asked: Option<&str>) -> Result<PathBuf, ModelDirError> {
        let Some(asked) = asked else {
            return match &self.configured {
                Some(folder) if is_model(folder) => Ok(folder.clone()),
                Some(folder) if is_model(&folder.join(BUNDLED)) => Ok(folder.join(BUNDLED)),
                // Whoever names a folder does not want another one.
                Some(folder) => Err(ModelDirError::NotAModel(folder.clone())),
                None => self.named(BUNDLED),
            };
        };
        let path = Path::new(asked);
        if path.is_dir() || path.components().count() > 1 {
            return if is_model(path) {
                Ok(path.to_owned())
            } else {
                Err(ModelDirError::NotAModel(path.to_owned()))
            };
        }
        self.named(asked)
    }

    fn named(&self, name: &str) -> Result<PathBuf, ModelDirError> {
        for place in self.places() {
            let folder = place.join(name);
            if is_model(&folder) {
                return Ok(folder);
            }
        }
        let name = name.to_owned();
        let known: Vec<String> = self
            .known()
            .iter()
            .map(|folder| folder_name(folder))
            .collect();
        if known.is_empty() {
            return Err(ModelDirError::NoModels { name });
        }
        Err(ModelDirError::Unknown {
            name,
            known: known.join(", "),
        })
    }

    /// Every model folder that a name leads to, by name; of two with one name the first counts.
    pub fn known(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = self
            .configured
            .iter()
            .filter(|folder| is_model(folder))
            .cloned()
            .collect();
        for place in self.places() {
            let Ok(entries) = place.read_dir() else {
                continue;
            };
            for folder in entries.filter_map(Result::ok).map(|entry| entry.path()) {
                let name = folder_name(&folder);
                if is_model(&folder) && !found.iter().any(|known| folder_name(known) == name) {
                    found.push(folder);
                }
            }
        }
        found.sort_by_key(|folder| folder_name(folder));
        found
    }

    /// The folders that hold model folders. Only the configured root may hold them directly.
    fn places(&self) -> Vec<PathBuf> {
        let in_models = self.folders.iter().map(|folder| folder.join("models"));
        self.configured.iter().cloned().chain(in_models).collect()
    }
}

fn is_model(folder: &Path) -> bool {
    folder.join("unet/config.json").is_file()
}

/// The folder's own name, for lists and messages.
pub fn folder_name(folder: &Path) -> String {
    folder
        .file_name()
        .unwrap_or(folder.as_os_str())
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(root: &Path, name: &str) -> PathBuf {
        let folder = root.join(name);
        std::fs::create_dir_all(folder.join("unet")).unwrap();
        std::fs::write(folder.join("unet/config.json"), "{}").unwrap();
        folder
    }

    fn roots(configured: Option<PathBuf>, folders: &[&Path]) -> Roots {
        let folders = folders.iter().map(|folder| (*folder).to_owned());
        Roots {
            folders: configured.clone().into_iter().chain(folders).collect(),
            configured,
        }
    }

    #[test]
    fn a_name_is_found_in_a_models_folder_and_the_nearest_counts() {
        let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = model(&near.path().join("models"), BUNDLED);
        model(&far.path().join("models"), BUNDLED);
        let other = model(&far.path().join("models"), "other");
        let roots = roots(None, &[near.path(), far.path()]);
        assert_eq!(roots.find(None).unwrap(), first);
        assert_eq!(roots.find(Some("other")).unwrap(), other);
        assert_eq!(roots.known(), [other, first]);
        let error = roots.find(Some("missing")).unwrap_err().to_string();
        assert!(error.contains("other, upres-tiny"), "{error}");
    }

    #[test]
    fn the_configured_folder_is_a_model_or_holds_models() {
        let root = tempfile::tempdir().unwrap();
        let own = model(root.path(), "own");
        assert_eq!(roots(Some(own.clone()), &[]).find(None).unwrap(), own);
        let holder = roots(Some(root.path().to_owned()), &[]);
        assert_eq!(holder.find(Some("own")).unwrap(), own);
        assert!(matches!(
            holder.find(None),
            Err(ModelDirError::NotAModel(_))
        ));
    }

    #[test]
    fn a_path_must_lead_to_a_model() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().to_str().unwrap().to_owned();
        assert!(matches!(
            roots(None, &[]).find(Some(&path)),
            Err(ModelDirError::NotAModel(_))
        ));
        assert!(matches!(
            roots(None, &[]).find(None),
            Err(ModelDirError::NoModels { .. })
        ));
    }
}
